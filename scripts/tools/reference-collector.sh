#!/usr/bin/env bash
# Builds the reference OpenTelemetry Collector, by its own builder, from Go modules of one pinned version.
#
#   collector=$(scripts/tools/reference-collector.sh) && "$collector" --config …
#
# Prints the path of the binary, target/reference-collector/otelcol; what is already built stays. In it: the OTLP receiver;
# the exporters nop, debug, otlp (gRPC) and otlphttp; the batch processor; file storage for persistent queues; bearer
# tokens. Builds with the Go of scripts/tools/find-go.sh; the first time takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=0.165.0 stable=1.71.0
dir=$PWD/target/reference-collector
fail() { printf 'reference-collector.sh: %s\n' "$1" >&2; exit 1; }

builder_file() {
    cat <<YAML
dist: {name: otelcol, output_path: $dir, version: $version}
receivers:
  - gomod: go.opentelemetry.io/collector/receiver/otlpreceiver v$version
exporters:
  - gomod: go.opentelemetry.io/collector/exporter/nopexporter v$version
  - gomod: go.opentelemetry.io/collector/exporter/debugexporter v$version
  - gomod: go.opentelemetry.io/collector/exporter/otlpexporter v$version
  - gomod: go.opentelemetry.io/collector/exporter/otlphttpexporter v$version
processors:
  - gomod: go.opentelemetry.io/collector/processor/batchprocessor v$version
extensions:
  - gomod: github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/filestorage v$version
  - gomod: github.com/open-telemetry/opentelemetry-collector-contrib/extension/bearertokenauthextension v$version
providers:
  - gomod: go.opentelemetry.io/collector/confmap/provider/fileprovider v$stable
  - gomod: go.opentelemetry.io/collector/confmap/provider/envprovider v$stable
  - gomod: go.opentelemetry.io/collector/confmap/provider/yamlprovider v$stable
YAML
}

if [ ! -x "$dir/otelcol" ] || ! builder_file | cmp -s - "$dir/built.yaml"; then
    go=$(scripts/tools/find-go.sh)
    export PATH="${go%/*}:$PATH" GOTOOLCHAIN=local GOBIN="$dir/bin"
    rm -rf "$dir"
    mkdir -p "$dir"
    builder_file >"$dir/builder.yaml"
    printf 'building the Collector %s …\n' "$version" >&2
    { "$go" install "go.opentelemetry.io/collector/cmd/builder@v$version" &&
        "$dir/bin/builder" --config "$dir/builder.yaml"; } >"$dir/build.log" 2>&1 ||
        { tail -n 30 "$dir/build.log" >&2; fail "the Collector did not build; all of it: $dir/build.log"; }
    # Last, so that a build that was broken off is done again.
    mv "$dir/builder.yaml" "$dir/built.yaml"
fi
printf '%s\n' "$dir/otelcol"
