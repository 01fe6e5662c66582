#!/usr/bin/env bash
# Checks the dashboards, for those who change them or the metrics.
#
#   scripts/check/dashboards.sh [BINARY]      the default is target/debug/ruvvector-service
#
# Grafana's typed models of three versions read every field; the project's rules hold; every query has data from the real
# service, from two versions of Prometheus and from a filled PostgreSQL, where it uses an index; and the three commands of
# dashboards/README.md give an operator all of it. Needs Python 3.11 or later with venv, Prometheus, promtool, curl and
# PostgreSQL's programs; installs Python's packages into target/dashboards.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"

find_service "$@"
needs prometheus promtool curl
requirements=tests/dashboards/requirements
environments=target/dashboards
for version in grafana-10 grafana-11 grafana-main; do
    install_packages "$environments/$version" "$requirements/$version.txt" "$requirements/tools.txt"
    "$environments/$version/bin/python" -m tests.dashboards.models
done
python=$environments/grafana-main/bin/python
"$python" -m tests.dashboards.rules
prometheus3=$(scripts/tools/prometheus3.sh)
# Each part fills its own PostgreSQL.
for part in live newcomer; do
    scripts/with-postgres.sh "$python" -m "tests.dashboards.$part" "$binary" prometheus "$prometheus3/prometheus"
done
