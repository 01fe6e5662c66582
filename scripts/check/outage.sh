#!/usr/bin/env bash
# Has the alerts tried by a deliberate outage: PostgreSQL is stopped under load, an instance killed, another kept restarting,
# and what a real Prometheus fires and a real Alertmanager sends has to be what it should, and nothing more. Then the alerts
# on maintenance, each by the cause that its runbook names.
#
#   scripts/check/outage.sh [BINARY]      the default is target/debug/ruvvector-service
#
# Takes a minute and a half: the rules' clock goes 60 times as fast. PROMETHEUS and ALERTMANAGER name other programs. Needs
# Python's yaml and PostgreSQL's programs.
set -euo pipefail
cd "$(dirname "$0")/../.."

binary=${1:-target/debug/ruvvector-service}
[ -x "$binary" ] || { echo "check-outage: $binary is missing; build it with: cargo build" >&2; exit 1; }
PYTHONPATH=tests/dashboards scripts/with-postgres.sh python3 tests/alerts/outage.py "$binary"
PYTHONPATH=tests/dashboards scripts/with-postgres.sh python3 tests/alerts/upkeep.py "$binary"
