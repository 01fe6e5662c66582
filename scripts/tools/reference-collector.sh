#!/usr/bin/env bash
# Builds the reference OpenTelemetry Collector, in its pinned version, by its own builder. For the tests and otlp-conformance.sh.
#
#   collector=$(scripts/tools/reference-collector.sh) && "$collector" --config …
#
# Prints the path of the binary, target/reference-collector/otelcol; an existing one stays. It has the OTLP receiver; the
# exporters nop, debug, otlp (gRPC) and otlphttp; the batch processor; file storage for persistent queues; and bearer tokens.
# The first build takes some minutes. Needs what scripts/tools/find-go.sh needs.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"

version=$(version collector)
stable=$(version collector-stable)
directory=$PWD/target/reference-collector

builder_file() {
    cat <<YAML
dist: {name: otelcol, output_path: $directory, version: $version}
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

if [ ! -x "$directory/otelcol" ] || ! builder_file | cmp --silent - "$directory/built.yaml"; then
    printf 'building the Collector %s …\n' "$version" >&2
    rm -rf "$directory"
    mkdir -p "$directory"
    builder_file >"$directory/builder.yaml"
    go_install "$directory/bin" "go.opentelemetry.io/collector/cmd/builder@v$version"
    go=$(scripts/tools/find-go.sh)
    PATH=${go%/*}:$PATH GOTOOLCHAIN=local "$directory/bin/builder" --config "$directory/builder.yaml" \
        >"$directory/build.log" 2>&1 || {
        tail -n 30 "$directory/build.log" >&2
        fail "the Collector did not build; the whole log is $directory/build.log"
    }
    # The rename comes last, so that an interrupted build is repeated.
    mv "$directory/builder.yaml" "$directory/built.yaml"
fi
printf '%s\n' "$directory/otelcol"
