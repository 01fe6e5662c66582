#!/usr/bin/env bash
# Measures the release build with a real PostgreSQL on this machine. For those who change performance; README.md has the results.
#
#   scripts/bench/bench.sh [SECONDS]          length of each measurement; the default is 10
#
# Prints each measurement beside a floor, which is a simpler program that does only the unavoidable part of the work:
#   into the journal  spans/s and the server's CPU per span for 500-span requests over HTTP and gRPC; floor: a server that
#                     discards the body
#   acknowledgement   open-loop latency at 20,000 spans/s while PostgreSQL stores them; floor: one synced write
#   end to end        rows/s from the first request to the last commit; floor: one binary \copy of the same rows
#   memory            idle, and under a flood while PostgreSQL is unreachable
# Each measurement of throughput counts the rows that arrived. The load generator shares the machine's cores, which should be
# idle otherwise. Needs Rust, curl, psql and PostgreSQL's programs.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"

# Memory and write-ahead log as an operator would configure them.
export RUVVECTOR_TEST_POSTGRES_OPTIONS="-c shared_buffers=1GB -c max_wal_size=8GB ${RUVVECTOR_TEST_POSTGRES_OPTIONS:-}"
beside_postgres "$@"
needs cargo curl psql

seconds=${1:-10}
psql=(psql --no-psqlrc --quiet --tuples-only --no-align -v ON_ERROR_STOP=1)
admin=$RUVVECTOR_TEST_POSTGRES_URL
base=${admin%/*}
temporary_directory bench

printf 'building …\n'
cargo build --quiet --release
load=$(cargo_executable load bench --bench load)
find_service target/release/ruvvector-service

# start NAME DATABASE-URL: runs the service with an empty journal.
start() { start_service "$1" RUVVECTOR_STORE=postgres DATABASE_URL="$2" RUVVECTOR_RETENTION_DAYS=30; }
# stop NAME: kills the service and removes its data.
stop() {
    kill_process "$service"
    rm -rf "${dir:?}/$1"
}
database() { "${psql[@]}" "$admin" -c "CREATE DATABASE $1"; }
metric() { curl --silent --fail "$main/metrics" | awk -v name="$1" '$1 == name { print $2 }'; }
rows() { "${psql[@]}" "$base/$1" -c "SELECT count(*) FROM telemetry_events"; }
field() { sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p" <<<"$2"; }
memory_mib() { awk -v key="$1:" '$1 == key { printf "%.1f", $2 / 1024 }' "/proc/$service/status"; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0) printf "%.2f", a / b; else printf "–" }'; }
drained() {
    until [ "$(metric ruvvector_queue_events)" = 0 ]; do sleep 0.05; done
}
# arrived DATABASE SPANS: fails unless the table has as many rows as spans were acknowledged.
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
await grep -q address "$dir/floor"
floor=$("$load" flood "$(sed 's/.*"address":"\([^"]*\)".*/\1/' "$dir/floor")" "$floor_pid" "$seconds" 16 500)
line 'floor: body dropped' "$(field spans_per_s "$floor") spans/s, $(field cpu_us_per_span "$floor") µs CPU a span"
kill_process "$floor_pid"
# The database is unreachable, so that the journal alone is measured.
start journal postgres://postgres@127.0.0.1:1/none
line 'memory, idle' "$(memory_mib VmRSS) MiB"
# The budget of the journal limits the length of a run at full speed.
into=$("$load" flood "$otlp_http" "$service" "$((seconds < 5 ? seconds : 5))" 16 500)
line 'decoded and synced' "$(field spans_per_s "$into") spans/s, $(field cpu_us_per_span "$into") µs CPU a span"
line 'answered after' "p50 $(field p50_ms "$into") ms, p99 $(field p99_ms "$into") ms"
line 'refused' "$(($(field requests "$into") - $(field accepted "$into"))) of $(field requests "$into") requests"
queued=$(metric ruvvector_queue_events)
[ "$queued" = "$(field spans "$into")" ] || fail "$(field spans "$into") spans were acknowledged and $queued are in the journal"
line 'events in the journal' "$queued of $(field spans "$into")"
line 'memory at its peak, flood without database' "$(memory_mib VmHWM) MiB"
stop journal
start grpc postgres://postgres@127.0.0.1:1/none
over_grpc=$("$load" flood "grpc://${otlp_grpc#http://}" "$service" "$((seconds < 5 ? seconds : 5))" 16 500)
line 'the same over gRPC' "$(field spans_per_s "$over_grpc") spans/s, $(field cpu_us_per_span "$over_grpc") µs CPU a span"
line 'gRPC / HTTP, CPU a span' "$(ratio "$(field cpu_us_per_span "$over_grpc")" "$(field cpu_us_per_span "$into")")"
queued=$(metric ruvvector_queue_events)
[ "$queued" = "$(field spans "$over_grpc")" ] || fail "$(field spans "$over_grpc") spans were acknowledged and $queued are in the journal"
stop grpc

printf '\nacknowledgement: 20,000 spans/s, 100-span requests, open loop, while PostgreSQL drains\n'
sync=$("$load" sync "$dir/sync" 500)
line 'floor: 64 KiB written and synced' "p50 $(field p50_ms "$sync") ms, p99 $(field p99_ms "$sync") ms"
database ack
start ack "$base/ack"
ack=$("$load" steady "$otlp_http" "$service" "$seconds" 20000 100)
line 'acknowledged after' "p50 $(field p50_ms "$ack") ms, p99 $(field p99_ms "$ack") ms"
line 'accepted' "$(field accepted "$ack") of $(field requests "$ack") requests"
drained
arrived ack "$(field spans "$ack")"
stop ack

printf '\nend to end: 500-span requests, 4 connections, from the first request to the last commit\n'
database rows
start rows "$base/rows"
from=$(date +%s.%N)
sent=$("$load" flood "$otlp_http" "$service" "$((seconds < 3 ? seconds : 3))" 4 500)
drained
to=$(date +%s.%N)
line 'journal accepted' "$(field spans_per_s "$sent") spans/s"
through=$(awk -v n="$(field spans "$sent")" -v a="$from" -v b="$to" 'BEGIN { printf "%.0f", n / (b - a) }')
line 'stored' "$through rows/s"
arrived rows "$(field spans "$sent")"
stop rows
columns='timestamp, time_unix_nano, duration_ns, created_at, kind, flags, correlation_id, integration, provider, event_type, trace_id, span_id, parent_span_id, name, status, resource_id, metadata'
"${psql[@]}" "$base/rows" -c "\\copy (SELECT $columns FROM telemetry_events) TO '$dir/rows.bin' (FORMAT binary)"
"${psql[@]}" "$base/rows" -c 'TRUNCATE telemetry_events' -c 'CHECKPOINT'
from=$(date +%s.%N)
"${psql[@]}" "$base/rows" -c "\\copy telemetry_events ($columns) FROM '$dir/rows.bin' (FORMAT binary)"
to=$(date +%s.%N)
copied=$(awk -v n="$(rows rows)" -v a="$from" -v b="$to" 'BEGIN { printf "%.0f", n / (b - a) }')
line 'floor: one \copy of the same rows' "$copied rows/s"
line 'stored / \copy' "$(ratio "$through" "$copied")"
