#!/usr/bin/env bash
# Prints /metrics of the built service on PostgreSQL after a request over HTTP, one over gRPC and a query, so that every metric has
# a series. For those who write rules and dashboards.
#
#   scripts/operate/metrics-page.sh > page
#
# RUVVECTOR_BINARY names another binary than target/debug/ruvvector-service. Ports are free ones; data is temporary. Needs curl
# and PostgreSQL's programs.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
beside_postgres "$@"

find_service
needs curl
temporary_directory page
start_service service RUVVECTOR_STORE=postgres DATABASE_URL="$RUVVECTOR_TEST_POSTGRES_URL" RUVVECTOR_MAINTENANCE_INTERVAL=1s \
    RUVVECTOR_JOURNAL_MAX_BYTES=256MiB RUVVECTOR_JOURNAL_FREE_FLOOR_BYTES=16MiB

ask() { curl --silent --show-error --fail --max-time 20 "$@"; }
send() { ask --output "$dir/answer" "$@"; }
complete() {
    ask --output "$dir/page" "$main/metrics" && grep -q '^ruvvector_write_events_total 2$' "$dir/page" &&
        grep -q '^ruvvector_partitions_ahead_days' "$dir/page"
}

send -d '{"correlationId":"page-1","integration":"page","eventType":"test"}' "$main/ingest?wait=stored"
send -H 'Content-Type: application/json' "$main/v1/logs" -d '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"page"}}]}]}]}'
# An empty request in gRPC's frame: not compressed, no bytes.
printf '\0\0\0\0\0' >"$dir/frame"
send --http2-prior-knowledge -H 'Content-Type: application/grpc' -H 'TE: trailers' --data-binary "@$dir/frame" \
    "$otlp_grpc/opentelemetry.proto.collector.trace.v1.TraceService/Export"
send "$main/query?integration=page"
await complete
cat "$dir/page"
