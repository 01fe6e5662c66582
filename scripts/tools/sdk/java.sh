#!/usr/bin/env bash
# Builds the test program for OpenTelemetry's Java SDK: target/sdk/java/run. For the tests; tests/sdk/README.md describes it.
#
#   scripts/tools/sdk/java.sh
#   scripts/tools/sdk/java.sh --lock      after a change of pom.xml: writes the digests of the jars that Maven downloads
#
# jars.sha256 pins every jar by its digest; an existing program stays. Needs a JDK and Maven.
set -euo pipefail
. "$(dirname "$0")/../../lib.sh"
cd "$root"

source=$PWD/tests/sdk/java directory=$PWD/target/sdk/java
all() { cat "$source/pom.xml" "$source/jars.sha256" "$source"/src/main/java/*.java; }
digests() { (cd "$directory/lib" && LC_ALL=C && sha256sum -- *.jar); }

if [ "${1:-}" != --lock ] && all | cmp --silent - "$directory/built"; then
    exit
fi
needs javac mvn
rm -rf "$directory"
mkdir -p "$directory"
mvn --batch-mode --quiet --file "$source/pom.xml" -Dbuild="$directory" compile dependency:copy-dependencies >"$directory/build.log" 2>&1 ||
    { tail -n 30 "$directory/build.log" >&2; fail 'the program did not build'; }
[ "${1:-}" != --lock ] || digests >"$source/jars.sha256"
digests | diff "$source/jars.sha256" - >&2 || fail "the jars are not those of $source/jars.sha256"
cat >"$directory/run" <<RUN
#!/bin/sh
exec java -cp '$directory/classes:$directory/lib/*' Contract "\$@"
RUN
chmod +x "$directory/run"
# This comes last, so that an interrupted build is repeated.
all >"$directory/built"
