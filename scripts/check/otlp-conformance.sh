#!/usr/bin/env bash
# Checks any OTLP server by the rules of OTLP 1.11, over its sockets, and prints which rules it keeps.
#
#   scripts/check/otlp-conformance.sh http://host:4318 [host:4317]
#   scripts/check/otlp-conformance.sh --markdown       this service beside the reference Collector, into docs/otlp.md
#
# The first address is that of OTLP/HTTP, the second that of OTLP/gRPC; without the second, rules of gRPC are not judged. The
# server receives tens of thousands of spans, fewer log records and metric points, all named `conformance`, and requests of up
# to 80 MiB. Needs Rust, and for --markdown what scripts/tools/reference-collector.sh needs.
#
# Each line has the row, the author of the rule (MUST and SHOULD are the specification's, others are our wish), the result, and
# the rule. The exit code is 1 if a MUST is broken, 2 if the rules cannot be judged, and otherwise 0. Some rules need a server
# with a certain configuration:
#   --auth URL [GRPC]       requires the bearer token a-token-of-the-conformance-suite
#   --cors URL [GRPC]       accepts requests of pages of http://page.example that have this token
#   --refusing URL [GRPC]   cannot accept requests at present, as its database is unreachable or its queue is full
#   --strict URL [GRPC]     refuses JSON keys in snake_case, as the specification demands
#   --cutting URL [GRPC]    discards attributes after the first 8 of an item, and reports it
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"

failure_code=2
[ $# -gt 0 ] || usage
suite=$(cargo_executable otlp test --test otlp)

if [ "$1" != --markdown ]; then
    exec "$suite" --judge --server server "$@"
fi

temporary_directory otlp
collector=$(scripts/tools/reference-collector.sh)
version=$("$collector" --version | grep -o '[0-9][0-9.]*' | head -n 1)

# start NAME HTTP-OPTIONS GRPC-OPTIONS EXPORTER: starts a Collector and sets `at` to its two addresses.
at=()
start() {
    local http grpc
    http=$(free_port)
    grpc=$(free_port)
    cat >"$dir/$1.yaml" <<YAML
extensions: {bearertokenauth: {token: a-token-of-the-conformance-suite}}
receivers:
  otlp:
    protocols:
      http: {endpoint: "127.0.0.1:$http"$2}
      grpc: {endpoint: "127.0.0.1:$grpc"$3}
exporters:
  nop: {}
  otlp_http: {endpoint: "http://127.0.0.1:1", sending_queue: {enabled: false}, retry_on_failure: {enabled: false}}
service:
  extensions: [bearertokenauth]
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [$4]}
    logs: {receivers: [otlp], exporters: [$4]}
    metrics: {receivers: [otlp], exporters: [$4]}
YAML
    "$collector" --config "$dir/$1.yaml" >"$dir/$1.log" 2>&1 &
    await grep -q 'Everything is ready' "$dir/$1.log"
    at=("http://127.0.0.1:$http" "127.0.0.1:$grpc")
}
auth=', auth: {authenticator: bearertokenauth}'
start plain '' '' nop && plain=("${at[@]}")
start cors "$auth, cors: {allowed_origins: [http://page.example], allowed_headers: [authorization, content-type]}" '' nop && cors=("${at[@]}")
start auth "$auth" "$auth" nop && auth=("${at[@]}")
start refusing '' '' otlp_http && refusing=("${at[@]}")

begin='<!-- Made by scripts/check/otlp-conformance.sh: -->' end='<!-- End of the table. -->'
code=0
"$suite" --judge --markdown --ours 'RuvVector Service' --server "Collector $version" "${plain[@]}" \
    --cors "${cors[@]}" --auth "${auth[@]}" --refusing "${refusing[@]}" >"$dir/table.md" || code=$?
[ "$code" -le 1 ] || exit "$code"
awk -v begin="$begin" -v end="$end" -v table="$dir/table.md" '
    $0 == end { skipping = 0 }
    !skipping { print }
    $0 == begin { print ""; while ((getline line < table) > 0) print line; print ""; skipping = 1 }
' docs/otlp.md >"$dir/otlp.md"
grep -qF "$begin" "$dir/otlp.md" || fail "docs/otlp.md has no place for the table"
cp "$dir/otlp.md" docs/otlp.md
exit "$code"
