#!/usr/bin/env bash
# Measures how long an outage each SDK survives by its own defaults, and prints the rows of docs/sdks.md's table.
#
#   scripts/bench/sdk-outage.sh                    all of them; from half a minute to six minutes a row
#   scripts/bench/sdk-outage.sh python             one language
#   scripts/bench/sdk-outage.sh python grpc        one row
#
# Wants a machine that does nothing else: the programs run side by side, and what starves them looks like impatience. Not
# part of scripts/test.sh: it waits for minutes, and says how SDKs behave, not how the service does.
set -euo pipefail
cd "$(dirname "$0")/../.."

# A language, and its protocols.
table='
python http/protobuf http/json grpc
javascript http/protobuf http/json grpc
java http/protobuf grpc
go http/protobuf grpc
rust http/protobuf http/json grpc
'

scripts/tools/sdk/python.sh
while read -r language protocols; do
    [ -n "$language" ] || continue
    [ "${1:-$language}" = "$language" ] || continue
    "scripts/tools/sdk/$language.sh"
    for protocol in $protocols; do
        [ "${2:-$protocol}" = "$protocol" ] || continue
        target/sdk/python/venv/bin/python tests/sdk/outage.py "$language" "$protocol" </dev/null
    done
done <<<"$table"
