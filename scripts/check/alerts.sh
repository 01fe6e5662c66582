#!/usr/bin/env bash
# Checks alerts/, for those who change rules, metrics or runbooks: promtool tests the rules, and tests/alerts checks that each
# alert has its tests and a runbook and that each metric and label exists.
#
#   scripts/check/alerts.sh                                  the metrics of the built service
#   scripts/check/alerts.sh http://127.0.0.1:3100/metrics    those of a running service, or of a file
#
# The page has to be that of a service on PostgreSQL that has accepted a request over HTTP and over gRPC and answered a query,
# as other series do not exist yet. PROMTOOL names another promtool than the machine's; that of scripts/tools/prometheus3.sh runs,
# too. Needs promtool, curl, Python's yaml, and PostgreSQL's programs for the built service.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"

promtool=${PROMTOOL:-promtool}
needs "$promtool" curl
temporary_directory alerts
case ${1:-} in
'') scripts/with-postgres.sh scripts/operate/metrics-page.sh >"$dir/page" ;;
http://* | https://*) curl --silent --show-error --fail --max-time 20 --output "$dir/page" "$1" ;;
*) cat -- "$1" >"$dir/page" ;;
esac

prometheus3=$(scripts/tools/prometheus3.sh)
for each in "$promtool" "$prometheus3/promtool"; do
    "$each" --version 2>&1 | head -n 1
    "$each" check rules --lint=all --lint-fatal alerts/*.rules.yml
    "$each" test rules alerts/tests/*.yml
done
python3 -m tests.alerts.alert_rules "$dir/page"
