#!/usr/bin/env bash
# Builds telemetrygen, OpenTelemetry's load generator, of one pinned version, and runs it.
#
#   scripts/tools/telemetrygen.sh traces --otlp-insecure --otlp-endpoint 127.0.0.1:4317 --traces 1000 --rate 0 --workers 2
#   scripts/tools/telemetrygen.sh logs --otlp-http --otlp-insecure --otlp-endpoint 127.0.0.1:4318 --duration 10s --rate 0
#
# Without arguments it only builds; what is already built stays. Every flag: scripts/tools/telemetrygen.sh traces --help
set -euo pipefail
cd "$(dirname "$0")/../.."

version=0.161.0
dir=$PWD/target/telemetrygen
program=$dir/telemetrygen-$version
if [ ! -x "$program" ]; then
    go=$(scripts/tools/find-go.sh)
    rm -rf "$dir"
    printf 'building telemetrygen %s …\n' "$version" >&2
    GOTOOLCHAIN=local GOBIN="$dir" "$go" install \
        "github.com/open-telemetry/opentelemetry-collector-contrib/cmd/telemetrygen@v$version" 2>"$dir.log" ||
        { tail -n 30 "$dir.log" >&2; exit 1; }
    mv "$dir/telemetrygen" "$program"
fi
[ $# -eq 0 ] || exec "$program" "$@"
