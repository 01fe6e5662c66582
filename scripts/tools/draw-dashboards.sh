#!/usr/bin/env bash
# Draws the dashboards into docs/images: five minutes of a shop's traffic into the real binary, PostgreSQL away for one of
# them, and what each panel's own query then gives of a real Prometheus and PostgreSQL.
#
#   scripts/tools/draw-dashboards.sh [BINARY]      the default is target/debug/ruvvector-service
#
# No Grafana is at work: layout, titles, units, thresholds and legends are taken from the JSON. SECONDS_OF_TRAFFIC is
# another length than 330. Installs matplotlib into target/drawings, as tests/dashboards/drawing pins it. Not part of the tests.
set -euo pipefail
cd "$(dirname "$0")/../.."

binary=${1:-target/debug/ruvvector-service}
[ -x "$binary" ] || { echo "draw-dashboards: $binary is missing; build it with: cargo build" >&2; exit 1; }

pinned=tests/dashboards/drawing/requirements.txt
home=target/drawings
if ! cmp -s "$pinned" "$home/installed.txt"; then
    rm -rf "$home"
    python3 -m venv "$home/venv"
    "$home/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary=:all: --require-hashes -r "$pinned"
    cp "$pinned" "$home/installed.txt"
fi
mkdir -p docs/images
# Where PostgreSQL is stopped and started is told in tests/alerts.
export PYTHONPATH=tests/dashboards:tests/alerts TZ=UTC
scripts/with-postgres.sh python3 tests/dashboards/drawing/record.py "$binary" prometheus "${SECONDS_OF_TRAFFIC:-330}" "$home/data.json"
"$home/venv/bin/python" tests/dashboards/drawing/draw.py "$home/data.json" docs/images
