#!/usr/bin/env bash
# Checks that every file with a pinned version agrees with scripts/tools/versions.txt. For those who change a version.
#
#   scripts/check/versions.sh
#
# Needs no other program.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"

compared=0
while read -r name version file text; do
    case $name:$file in
    '#'*:* | :*) continue ;;
    *:sha256 | *:) ;;
    *)
        grep --quiet --fixed-strings -- "${text//%/$version}" "$file" || fail "$file has another version of $name than $version"
        compared=$((compared + 1))
        ;;
    esac
done <scripts/tools/versions.txt
printf '%s versions agree with scripts/tools/versions.txt\n' "$compared"
