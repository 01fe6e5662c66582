#!/usr/bin/env bash
# Prints `/metrics` of the built binary on PostgreSQL, after one request each way in and one query.
#
#   scripts/with-postgres.sh scripts/operate/metrics-page.sh > page
#
# RUVVECTOR_BINARY names another binary than target/debug/ruvvector-service. Ports are free ones; the data directory is
# temporary.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
binary=${RUVVECTOR_BINARY:-$root/target/debug/ruvvector-service}
[ -x "$binary" ] || { echo "metrics-page: $binary is missing: build it" >&2; exit 1; }
[ -n "${RUVVECTOR_TEST_POSTGRES_URL:-}" ] || { echo "metrics-page: run it under scripts/with-postgres.sh" >&2; exit 1; }

dir=$(mktemp -d "${TMPDIR:-/tmp}/ruvvector-page.XXXXXX")
stop() {
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    rm -rf "$dir"
}
fail() {
    echo "metrics-page: $1" >&2
    tail -n 20 "$dir/log" >&2
    exit 1
}

env RUVVECTOR_STORE=postgres DATABASE_URL="$RUVVECTOR_TEST_POSTGRES_URL" RUVVECTOR_DATA_DIR="$dir/data" \
    RUVVECTOR_BIND=127.0.0.1 RUVVECTOR_SERVICE_PORT=0 RUVVECTOR_OTLP_HTTP_PORT=0 RUVVECTOR_OTLP_GRPC_PORT=0 \
    RUVVECTOR_MAINTENANCE_INTERVAL=1s RUVVECTOR_JOURNAL_MAX_BYTES=256MiB RUVVECTOR_JOURNAL_FREE_FLOOR_BYTES=16MiB \
    RUVVECTOR_LOG_FORMAT=json "$binary" >"$dir/log" 2>&1 &
pid=$!
trap stop EXIT

address() { sed -n "s/.*\"listener\":\"$1\",\"address\":\"\([^\", ]*\).*/\1/p" "$dir/log" | head -n 1; }
await() {
    local tries=300
    until "$@"; do
        tries=$((tries - 1))
        if [ $tries = 0 ] || ! kill -0 "$pid" 2>/dev/null; then fail "never came: $*"; fi
        sleep 0.2
    done
}
ask() { curl --silent --show-error --fail --max-time 20 "$@"; }
listening() { [ -n "$(address otlp_grpc)" ]; }
page() {
    ask "$main/metrics" >"$dir/page" && grep -q '^ruvvector_write_events_total 2$' "$dir/page" &&
        grep -q '^ruvvector_partitions_ahead_days' "$dir/page"
}

await listening
main=$(address main) grpc=$(address otlp_grpc)
ask -o "$dir/answer" -d '{"correlationId":"page-1","integration":"page","eventType":"test"}' "$main/ingest?wait=stored"
ask -o "$dir/answer" -H 'Content-Type: application/json' "$main/v1/logs" -d '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"page"}}]}]}]}'
# An empty request in gRPC's frame: not compressed, no bytes.
printf '\0\0\0\0\0' >"$dir/frame"
ask -o "$dir/answer" --http2-prior-knowledge -H 'Content-Type: application/grpc' -H 'TE: trailers' --data-binary "@$dir/frame" \
    "$grpc/opentelemetry.proto.collector.trace.v1.TraceService/Export"
ask -o "$dir/answer" "$main/query?integration=page"
await page
cat "$dir/page"
