#!/usr/bin/env bash
# Tests the alerts by deliberate outages, for those who change rules or runbooks.
#
#   scripts/check/outage.sh [BINARY]      the default is target/debug/ruvvector-service
#
# PostgreSQL is stopped under load, one instance is killed, another is restarted again and again. A real Prometheus then has to
# fire the expected alerts, a real Alertmanager has to send the expected pages, and neither may do more. Afterwards each alert on
# maintenance is caused as its runbook describes. It takes two minutes, as the rules' clock runs 60 times as fast. PROMETHEUS and
# ALERTMANAGER name other programs. Needs Prometheus, Alertmanager, psql, Python's yaml and PostgreSQL's programs.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"

find_service "$@"
needs "${PROMETHEUS:-prometheus}" "${ALERTMANAGER:-prometheus-alertmanager}" psql
for part in outage upkeep; do
    scripts/with-postgres.sh python3 -m "tests.alerts.$part" "$binary"
done
