#!/usr/bin/env bash
# Holds any OTLP server to the rules of OTLP 1.11, over its sockets, and prints what it keeps and what not.
#
#   scripts/check/otlp-conformance.sh http://host:4318 [host:4317]
#   scripts/check/otlp-conformance.sh --markdown       our own server beside the reference Collector, into docs/otlp.md
#
# The first address is OTLP/HTTP's, the second OTLP/gRPC's; without it what needs gRPC is not judged. It sends tens
# of thousands of spans, fewer log records and metric points, all named `conformance`, and requests of up to 80 MiB.
#
# Each line: the row, whose word it is (MUST and SHOULD are the specification's own, the rest is our wish), whether it
# passed, the rule. Exit code: 0, or 1 if a MUST was broken. Some rules show only in a server that is set up so:
#   --auth URL [GRPC]       asks for the bearer token a-token-of-the-conformance-suite
#   --cors URL [GRPC]       lets pages of http://page.example send, who bear that token
#   --refusing URL [GRPC]   cannot take anything for the time being (its database is away, its queue full)
#   --strict URL [GRPC]     reads JSON without keys in snake_case, as the specification has it
#   --cutting URL [GRPC]    throws away attributes past the first 8 of an item, and says so
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { printf 'otlp-conformance.sh: %s\n' "$1" >&2; exit 2; }
[ $# -gt 0 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0" >&2; exit 2; }

suite=$(cargo test --quiet --test otlp --no-run --message-format=json |
    grep -o '"executable":"[^"]*/otlp-[^"]*"' | tail -n 1 | cut -d '"' -f 4) || fail "the suite did not build"
[ -x "$suite" ] || fail "the suite did not build"

if [ "$1" != --markdown ]; then
    exec "$suite" --judge --server server "$@"
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/ruvvector-otlp.XXXXXX")
pids=()
stop() {
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    rm -rf "$dir"
}
trap stop EXIT

collector=$(scripts/tools/reference-collector.sh)
version=$("$collector" --version | grep -o '[0-9][0-9.]*' | head -n 1)
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# start NAME RECEIVER EXPORTER EXTENSIONS: a Collector; its addresses are the last two of ${at[@]}.
at=()
start() {
    local http grpc
    http=$(free_port) grpc=$(free_port)
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
    pids+=($!)
    for _ in $(seq 300); do
        ! grep -q 'Everything is ready' "$dir/$1.log" || { at=("http://127.0.0.1:$http" "127.0.0.1:$grpc"); return; }
        kill -0 "${pids[-1]}" 2>/dev/null || break
        sleep 0.1
    done
    cat "$dir/$1.log" >&2
    fail "the Collector did not start"
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
