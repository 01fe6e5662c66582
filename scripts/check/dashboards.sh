#!/usr/bin/env bash
# Checks the dashboards: Grafana's typed models read every field, the rules hold, and every panel's query gives data from
# the real binary, real Prometheus (the machine's and Prometheus 3) and a filled PostgreSQL, by an index;
# and that the three commands of dashboards/README.md bring a newcomer all of it.
#
#   scripts/check/dashboards.sh [BINARY]      the default is target/debug/ruvvector-service
#
# Installs what it needs of Python into target/dashboards, as tests/dashboards/requirements pins it. Needs Python 3.11
# or later with venv, Prometheus, curl and PostgreSQL's programs.
set -euo pipefail
cd "$(dirname "$0")/../.."

binary=${1:-target/debug/ruvvector-service}
[ -x "$binary" ] || { echo "check-dashboards: $binary is missing; build it with: cargo build" >&2; exit 1; }

requirements=tests/dashboards/requirements
home=target/dashboards
# Each version of the models is a package of the same name, so each has a directory of its own.
if ! cat "$requirements"/*.txt | cmp -s - "$home/installed.txt"; then
    rm -rf "$home"
    python3 -m venv "$home/venv"
    for file in "$requirements"/*.txt; do
        "$home/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary=:all: --require-hashes \
            --target "$home/$(basename "$file" .txt)" -r "$file"
    done
    cat "$requirements"/*.txt >"$home/installed.txt"
fi

for file in "$requirements"/grafana-*.txt; do
    version=$(basename "$file" .txt)
    PYTHONPATH=$home/$version python3 tests/dashboards/models.py "$version"
done
PYTHONPATH=$home/tools python3 tests/dashboards/rules.py
prometheus3=$(scripts/tools/prometheus3.sh)
scripts/with-postgres.sh python3 tests/dashboards/live.py "$binary" prometheus "$prometheus3/prometheus"
PYTHONPATH=$home/grafana-main:$home/tools \
    scripts/with-postgres.sh python3 tests/dashboards/newcomer.py "$binary" prometheus "$prometheus3/prometheus"
