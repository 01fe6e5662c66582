#!/usr/bin/env bash
# Installs the test program for OpenTelemetry's Python SDK: target/sdk/python/run. For the tests; tests/sdk/README.md describes it.
#
#   scripts/tools/sdk/python.sh
#
# requirements.txt pins every package; existing ones stay. Needs Python 3.11 or later with venv.
set -euo pipefail
. "$(dirname "$0")/../../lib.sh"
cd "$root"

directory=$PWD/target/sdk/python
mkdir -p "$directory"
install_packages "$directory/venv" tests/sdk/python/requirements.txt
printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$directory/venv/bin/python" "$PWD/tests/sdk/python/contract.py" >"$directory/run"
chmod +x "$directory/run"
