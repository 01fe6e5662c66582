#!/usr/bin/env bash
# Draws the dashboards into docs/images, for authors of the documentation.
#
#   scripts/tools/draw-dashboards.sh [BINARY]      the default is target/debug/ruvvector-service
#
# A shop's traffic runs through the real service for 330 s, or for SECONDS_OF_TRAFFIC; PostgreSQL is stopped for a part of them.
# Each picture then shows the answers of a real Prometheus and PostgreSQL to the panels' own queries. Layout, titles, units,
# thresholds and legends come from the JSON; Grafana does not run. No test calls this script. Needs Prometheus, PostgreSQL's
# programs, and Python with venv and yaml; installs matplotlib into target/drawings.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"

find_service "$@"
needs prometheus
drawings=target/drawings
install_packages "$drawings/venv" tests/dashboards/drawing/requirements.txt
mkdir -p docs/images
export TZ=UTC
scripts/with-postgres.sh python3 -m tests.dashboards.drawing.record "$binary" prometheus "${SECONDS_OF_TRAFFIC:-330}" "$drawings/data.json"
"$drawings/venv/bin/python" -m tests.dashboards.drawing.draw "$drawings/data.json" docs/images
