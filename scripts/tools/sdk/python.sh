#!/usr/bin/env bash
# Installs the Python program of tests/sdk into target/sdk/python, with every package as requirements.txt pins it.
#
# Says nothing and does nothing when it is all there. Needs Python 3.11 or later with venv.
set -euo pipefail
cd "$(dirname "$0")/../../.."

requirements=tests/sdk/python/requirements.txt
home=$PWD/target/sdk/python
if ! cmp -s "$requirements" "$home/installed.txt"; then
    rm -rf "$home"
    mkdir -p "$home"
    python3 -m venv "$home/venv"
    "$home/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary=:all: --require-hashes -r "$requirements"
    printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$home/venv/bin/python" "$PWD/tests/sdk/python/contract.py" >"$home/run"
    chmod +x "$home/run"
    cp "$requirements" "$home/installed.txt"
fi
