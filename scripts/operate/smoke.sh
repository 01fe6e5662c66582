#!/usr/bin/env bash
# Checks a running service, for operators after an installation or upgrade: health, an event, a batch, a span, queries, metrics.
#
#   scripts/operate/smoke.sh [URL]        the default is http://127.0.0.1:3100
#
# Exits with 0 if every check passes. It adds a few events of the integration `smoke`. It stands alone, so that it can be copied to
# any machine. Needs curl.
set -euo pipefail

url=${1:-http://127.0.0.1:3100}
url=${url%/}
id="smoke-$(date +%s)-$$"
trace=$(printf '%08x%08x%08x%08x' "$(date +%s)" $$ $RANDOM $RANDOM)
span=$(printf '%08x%08x' $RANDOM $$)
now_ns="$(date +%s)000000000"

fail() {
    printf 'FAILED  %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf '        %s\n' "${2:0:500}" >&2
    exit 1
}

# ask CHECK EXPECTED CURL-ARGUMENT…: fails unless the request succeeds and its answer contains EXPECTED.
ask() {
    local check=$1 expected=$2 answer
    shift 2
    answer=$(curl --silent --show-error --fail-with-body --max-time 20 "$@" 2>&1) || fail "$check" "$answer"
    [[ $answer == *"$expected"* ]] || fail "$check: no '$expected' in the answer" "$answer"
    printf 'ok      %s\n' "$check"
}

command -v curl >/dev/null || fail "curl is not installed"
printf 'checking %s\n' "$url"

ask 'health'                  '"status":'        "$url/health"
ask 'ready'                   'ready'            "$url/health/ready"
ask 'one event, by curl -d'   '"accepted":1'     "$url/ingest?wait=stored" -d \
    "{\"correlationId\":\"$id\",\"integration\":\"smoke\",\"eventType\":\"check\",\"metadata\":{\"mark\":\"first\"}}"
ask 'a batch of two'          '"accepted":2'     "$url/ingest?wait=stored" -H 'content-type: application/json' -d \
    "[{\"correlationId\":\"$id\",\"integration\":\"smoke\",\"eventType\":\"check\",\"metadata\":{\"mark\":\"second\"}},
      {\"correlationId\":\"$id\",\"integration\":\"smoke\",\"eventType\":\"check\",\"metadata\":{\"mark\":\"third\"}}]"
ask 'a span, as OTLP JSON'    '{}'               "$url/v1/traces" -H 'content-type: application/json' -d \
    "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":{\"stringValue\":\"smoke\"}}]},
      \"scopeSpans\":[{\"spans\":[{\"traceId\":\"$trace\",\"spanId\":\"$span\",\"name\":\"check\",\"kind\":1,
      \"startTimeUnixNano\":\"$now_ns\",\"endTimeUnixNano\":\"$now_ns\"}]}]}]}"

# An acknowledged span can be queried once it is stored.
for _ in $(seq 100); do
    found=$(curl --silent --max-time 20 "$url/traces/$trace" || true)
    [[ $found == *"$span"* ]] && break
    sleep 0.1
done
ask 'the events by query'     'third'            "$url/query?integration=smoke&correlationId=$id"
ask 'the trace by its id'     "$span"            "$url/traces/$trace"
ask 'metrics'                 'ruvvector_ready 1' "$url/metrics"

printf 'all is well\n'
