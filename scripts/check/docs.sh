#!/usr/bin/env bash
# Runs what the documentation tells people to run, and looks up what it names. tests/docs/README.md has the rules.
#
#   scripts/check/docs.sh [--show] [DOCUMENT…]      the default is every Markdown file of the project
#
# --show prints what each block said. RUVVECTOR_BINARY names another binary than target/debug/ruvvector-service. Needs Python
# 3.11 or later with yaml, Prometheus, curl, PostgreSQL's programs, and what scripts/tools/sdk/python.sh, scripts/tools/sdk/javascript.sh and
# scripts/tools/telemetrygen.sh install.
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=${RUVVECTOR_BINARY:-target/debug/ruvvector-service}
[ -x "$binary" ] || { echo "check-docs: $binary is missing; build it with: cargo build" >&2; exit 1; }
# It is thrown away, and a database a document would be seconds of syncing.
export RUVVECTOR_TEST_POSTGRES_OPTIONS="-c fsync=off -c full_page_writes=off ${RUVVECTOR_TEST_POSTGRES_OPTIONS:-}"
# With the servers of the dashboards' test, and the alerts' reading of PromQL.
export PYTHONPATH=$PWD/tests/dashboards:$PWD/tests/alerts
scripts/with-postgres.sh python3 tests/docs/run.py "$binary" "$@"
