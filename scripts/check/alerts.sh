#!/usr/bin/env bash
# Checks alerts/: the rules and their tests by promtool, both cases and a runbook for each alert, and that every metric and
# label they name is on a real page.
#
#   scripts/check/alerts.sh http://127.0.0.1:3100/metrics
#   scripts/with-postgres.sh scripts/check/alerts.sh            # the page of the built binary, by scripts/operate/metrics-page.sh
#
# The page, a URL or a file, has to be that of a service on PostgreSQL that has taken a request over HTTP and over gRPC and
# answered a query: what never happened has no series. PROMTOOL names another promtool than the machine's; Prometheus 3's is
# asked as well (scripts/tools/prometheus3.sh).
set -euo pipefail
cd "$(dirname "$0")/../.."
promtool=${PROMTOOL:-promtool}

page=$(mktemp "${TMPDIR:-/tmp}/ruvvector-page.XXXXXX")
trap 'rm -f "$page"' EXIT
case ${1:-} in
'') scripts/operate/metrics-page.sh >"$page" ;;
http://* | https://*) curl --silent --show-error --fail --max-time 20 -o "$page" "$1" ;;
*) cat -- "$1" >"$page" ;;
esac

prometheus3=$(scripts/tools/prometheus3.sh)
for each in "$promtool" "$prometheus3/promtool"; do
    "$each" --version 2>&1 | head -n 1
    "$each" check rules --lint=all --lint-fatal alerts/*.rules.yml
    "$each" test rules alerts/tests/*.yml
done
python3 tests/alerts/alert_rules.py "$page"
