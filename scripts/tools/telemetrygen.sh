#!/usr/bin/env bash
# Builds telemetrygen, OpenTelemetry's load generator, in its pinned version, and runs it. For everybody who wants to send load.
#
#   scripts/tools/telemetrygen.sh traces --otlp-insecure --otlp-endpoint 127.0.0.1:4317 --traces 1000 --rate 0 --workers 2
#   scripts/tools/telemetrygen.sh logs --otlp-http --otlp-insecure --otlp-endpoint 127.0.0.1:4318 --duration 10s --rate 0
#
# Without arguments it only builds; an existing program stays. `scripts/tools/telemetrygen.sh traces --help` lists all flags.
# Needs what scripts/tools/find-go.sh needs.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"

version=$(version telemetrygen)
directory=$PWD/target/telemetrygen
program=$directory/telemetrygen-$version
if [ ! -x "$program" ]; then
    printf 'building telemetrygen %s …\n' "$version" >&2
    rm -rf "$directory"
    go_install "$directory" "github.com/open-telemetry/opentelemetry-collector-contrib/cmd/telemetrygen@v$version"
    mv "$directory/telemetrygen" "$program"
fi
[ $# -eq 0 ] || exec "$program" "$@"
