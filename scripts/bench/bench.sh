#!/usr/bin/env bash
# Measures the real release binary with a real PostgreSQL, all in one run on this machine.
#
#   scripts/bench/bench.sh [SECONDS]          of each throughput; the default is 10
#
# Prints, with the floor that each is to be read against:
#   into the journal      spans/s and the server's CPU a span, 500-span requests, over HTTP and gRPC; floor: a server that
#                     drops the body
#   acknowledgement   open-loop latency at 20,000 spans/s while PostgreSQL drains; floor: one bare synced write
#   end to end        rows/s from the first request to the last commit; floor: one binary \copy of the same rows
#   memory            idle, and under a flood while PostgreSQL is away
# Every throughput comes with a count of the rows that arrived. The load generator shares the machine's cores.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ -z "${RUVVECTOR_TEST_POSTGRES_URL:-}" ]; then
    # As an operator would have it; the stop in the middle of the run needs the cluster's own programs.
    export RUVVECTOR_TEST_POSTGRES_OPTIONS="-c shared_buffers=1GB -c max_wal_size=8GB ${RUVVECTOR_TEST_POSTGRES_OPTIONS:-}"
    exec scripts/with-postgres.sh "$0" "$@"
fi

seconds=${1:-10}
psql=(psql --no-psqlrc --quiet --tuples-only --no-align -v ON_ERROR_STOP=1)
admin=$RUVVECTOR_TEST_POSTGRES_URL
base=${admin%/*}
dir=$(mktemp -d "${TMPDIR:-/tmp}/ruvvector-bench.XXXXXX")
service_pid="" floor_pid=""
cleanup() {
    [ -z "$service_pid" ] || kill -9 "$service_pid" 2>/dev/null || true
    [ -z "$floor_pid" ] || kill -9 "$floor_pid" 2>/dev/null || true
    rm -rf "$dir"
}
trap cleanup EXIT
fail() { printf 'bench.sh: %s\n' "$1" >&2; exit 1; }

printf 'building …\n'
cargo build --quiet --release
load=$(cargo bench --quiet --bench load --no-run --message-format=json 2>/dev/null |
    grep -o '"executable":"[^"]*/load-[^"]*"' | tail -n 1 | cut -d '"' -f 4)
[ -x "$load" ] || fail "the load generator did not build"
binary=target/release/ruvvector-service

# start NAME DATABASE-URL: a service of its own, in $dir/NAME; sets url, otlp and service_pid.
start() {
    mkdir -p "$dir/$1"
    env -i PATH="$PATH" RUVVECTOR_STORE=postgres DATABASE_URL="$2" RUVVECTOR_DATA_DIR="$dir/$1/data" RUVVECTOR_BIND=127.0.0.1 \
        RUVVECTOR_SERVICE_PORT=0 RUVVECTOR_OTLP_HTTP_PORT=0 RUVVECTOR_OTLP_GRPC_PORT=0 RUVVECTOR_RETENTION_DAYS=30 \
        "$binary" >"$dir/$1/lines" 2>&1 &
    service_pid=$!
    for _ in $(seq 100); do
        url=$(listener main "$1") otlp=$(listener otlp_http "$1") grpc=$(listener otlp_grpc "$1")
        [ -n "$url" ] && [ -n "$otlp" ] && curl -sf "$url/health/ready" >/dev/null && return
        sleep 0.1
    done
    cat "$dir/$1/lines" >&2
    fail "the service did not start"
}
listener() { sed -n "s/.*\"listener\":\"$1\",\"address\":\"\([^\",]*\).*/\1/p" "$dir/$2/lines"; }
stop() { kill -9 "$service_pid" 2>/dev/null || true; wait "$service_pid" 2>/dev/null || true; service_pid=; }
database() { "${psql[@]}" "$admin" -c "CREATE DATABASE $1"; }
metric() { curl -sf "$url/metrics" | awk -v name="$1" '$1 == name { print $2 }'; }
rows() { "${psql[@]}" "$base/$1" -c "SELECT count(*) FROM telemetry_events"; }
field() { sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p" <<<"$2"; }
memory_mib() { awk -v what="$1:" '$1 == what { printf "%.1f", $2 / 1024 }' "/proc/$service_pid/status"; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0) printf "%.2f", a / b; else printf "–" }'; }
drained() {
    until [ "$(metric ruvvector_queue_events)" = 0 ]; do sleep 0.05; done
}
# arrived DATABASE SPANS: rows in the table = spans that were acknowledged.
arrived() {
    local rows
    rows=$(rows "$1")
    [ "$rows" = "$2" ] || fail "$2 spans were acknowledged and $rows rows are in the table"
    printf '  %-44s %s of %s\n' 'rows that arrived' "$rows" "$2"
}
line() { printf '  %-44s %s\n' "$1" "$2"; }

printf '\n%s cores, %s, PostgreSQL %s\n' "$(nproc)" "$(uname -sr)" "$("${psql[@]}" "$admin" -c 'SHOW server_version')"

printf '\ninto the journal: 500-span requests, 16 connections\n'
"$load" floor >"$dir/floor" &
floor_pid=$!
for _ in $(seq 100); do
    grep -q address "$dir/floor" && break
    sleep 0.05
done
grep -q address "$dir/floor" || fail "the floor did not start"
floor=$("$load" flood "$(sed 's/.*"address":"\([^"]*\)".*/\1/' "$dir/floor")" "$floor_pid" "$seconds" 16 500)
line 'floor: body dropped' "$(field spans_per_s "$floor") spans/s, $(field cpu_us_per_span "$floor") µs CPU a span"
kill -9 "$floor_pid" && wait "$floor_pid" 2>/dev/null || true
floor_pid=
# A database that is not there: the journal alone.
start log postgres://postgres@127.0.0.1:1/none
line 'memory, idle' "$(memory_mib VmRSS) MiB"
# The journal's budget bounds how long full speed can last.
into=$("$load" flood "$otlp" "$service_pid" "$((seconds < 5 ? seconds : 5))" 16 500)
line 'decoded and synced' "$(field spans_per_s "$into") spans/s, $(field cpu_us_per_span "$into") µs CPU a span"
line 'answered after' "p50 $(field p50_ms "$into") ms, p99 $(field p99_ms "$into") ms"
line 'refused' "$(($(field requests "$into") - $(field accepted "$into"))) of $(field requests "$into") requests"
queued=$(metric ruvvector_queue_events)
[ "$queued" = "$(field spans "$into")" ] || fail "$(field spans "$into") spans were acknowledged and $queued are in the journal"
line 'events in the journal' "$queued of $(field spans "$into")"
line 'memory at its peak, flood without database' "$(memory_mib VmHWM) MiB"
stop
rm -rf "$dir/journal"
start grpc postgres://postgres@127.0.0.1:1/none
over_grpc=$("$load" flood "grpc://${grpc#http://}" "$service_pid" "$((seconds < 5 ? seconds : 5))" 16 500)
line 'the same over gRPC' "$(field spans_per_s "$over_grpc") spans/s, $(field cpu_us_per_span "$over_grpc") µs CPU a span"
line 'gRPC / HTTP, CPU a span' "$(ratio "$(field cpu_us_per_span "$over_grpc")" "$(field cpu_us_per_span "$into")")"
queued=$(metric ruvvector_queue_events)
[ "$queued" = "$(field spans "$over_grpc")" ] || fail "$(field spans "$over_grpc") spans were acknowledged and $queued are in the journal"
stop
rm -rf "$dir/grpc"

printf '\nacknowledgement: 20,000 spans/s, 100-span requests, open loop, while PostgreSQL drains\n'
sync=$("$load" sync "$dir/sync" 500)
line 'floor: 64 KiB written and synced' "p50 $(field p50_ms "$sync") ms, p99 $(field p99_ms "$sync") ms"
database ack
start ack "$base/ack"
ack=$("$load" steady "$otlp" "$service_pid" "$seconds" 20000 100)
line 'acknowledged after' "p50 $(field p50_ms "$ack") ms, p99 $(field p99_ms "$ack") ms"
line 'accepted' "$(field accepted "$ack") of $(field requests "$ack") requests"
drained
arrived ack "$(field spans "$ack")"
stop
rm -rf "$dir/ack"

printf '\nend to end: 500-span requests, 4 connections, from the first request to the last commit\n'
database rows
start rows "$base/rows"
from=$(date +%s.%N)
sent=$("$load" flood "$otlp" "$service_pid" "$((seconds < 3 ? seconds : 3))" 4 500)
drained
to=$(date +%s.%N)
line 'log accepted' "$(field spans_per_s "$sent") spans/s"
through=$(awk -v n="$(field spans "$sent")" -v a="$from" -v b="$to" 'BEGIN { printf "%.0f", n / (b - a) }')
line 'stored' "$through rows/s"
arrived rows "$(field spans "$sent")"
stop
columns='timestamp, time_unix_nano, duration_ns, created_at, kind, flags, correlation_id, integration, provider, event_type, trace_id, span_id, parent_span_id, name, status, resource_id, metadata'
"${psql[@]}" "$base/rows" -c "\\copy (SELECT $columns FROM telemetry_events) TO '$dir/rows.bin' (FORMAT binary)"
"${psql[@]}" "$base/rows" -c 'TRUNCATE telemetry_events' -c 'CHECKPOINT'
from=$(date +%s.%N)
"${psql[@]}" "$base/rows" -c "\\copy telemetry_events ($columns) FROM '$dir/rows.bin' (FORMAT binary)"
to=$(date +%s.%N)
copied=$(awk -v n="$(rows rows)" -v a="$from" -v b="$to" 'BEGIN { printf "%.0f", n / (b - a) }')
line 'floor: one \copy of the same rows' "$copied rows/s"
line 'stored / \copy' "$(ratio "$through" "$copied")"
