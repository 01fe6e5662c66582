#!/usr/bin/env bash
# Builds the program on the SDK for Java: target/sdk/java/run. Every jar is pinned by its digest in jars.sha256.
#
# After a change of pom.xml, `scripts/tools/sdk/java.sh --lock` writes the digests of what Maven brought.
set -euo pipefail
cd "$(dirname "$0")/../../.."

source=$PWD/tests/sdk/java dir=$PWD/target/sdk/java
fail() { printf 'java.sh: %s\n' "$1" >&2; exit 1; }
all() { cat "$source/pom.xml" "$source/jars.sha256" "$source"/src/main/java/*.java; }
digests() { (cd "$dir/lib" && LC_ALL=C && sha256sum -- *.jar); }

if [ "${1:-}" != --lock ] && all | cmp -s - "$dir/built"; then
    exit
fi
for program in javac mvn; do
    command -v "$program" >/dev/null || fail "$program is missing: install the packages default-jdk-headless and maven"
done
rm -rf "$dir"
mkdir -p "$dir"
mvn --batch-mode --quiet --file "$source/pom.xml" -Dbuild="$dir" compile dependency:copy-dependencies >"$dir/build.log" 2>&1 ||
    { tail -n 30 "$dir/build.log" >&2; fail 'it did not build'; }
[ "${1:-}" != --lock ] || digests >"$source/jars.sha256"
digests | diff "$source/jars.sha256" - >&2 || fail "these are not the jars of $source/jars.sha256"
cat >"$dir/run" <<RUN
#!/bin/sh
exec java -cp '$dir/classes:$dir/lib/*' Contract "\$@"
RUN
chmod +x "$dir/run"
# Last, so that a build that was broken off is done again.
all >"$dir/built"
