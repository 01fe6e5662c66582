#!/usr/bin/env bash
# Measures how long an outage each SDK survives by its own defaults, and prints the rows of docs/sdks.md's table.
#
#   scripts/bench/sdk-outage.sh                    all of them; from half a minute to six minutes a row
#   scripts/bench/sdk-outage.sh python             one language
#   scripts/bench/sdk-outage.sh python grpc        one row
#
# For authors of docs/sdks.md. The machine has to be idle otherwise, as the programs run at the same time and a slow one seems to
# give up early. Not part of scripts/test.sh, as it takes minutes and measures the SDKs, not the service. Needs what the
# scripts in scripts/tools/sdk/ need.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"

# Each line has a language and its protocols.
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
        target/sdk/python/venv/bin/python -m tests.sdk.outage "$language" "$protocol" </dev/null
    done
done <<<"$table"
