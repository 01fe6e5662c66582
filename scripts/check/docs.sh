#!/usr/bin/env bash
# Runs the commands and queries of the documentation and looks up the names in it, for authors. tests/docs/README.md has the rules.
#
#   scripts/check/docs.sh [--show] [DOCUMENT…]      the default is every Markdown file of the project
#
# --show prints the output of each block. RUVVECTOR_BINARY names another binary than target/debug/ruvvector-service. Needs Python
# 3.11 or later with yaml, Prometheus, curl, PostgreSQL's programs, and the programs that scripts/tools/sdk/python.sh,
# scripts/tools/sdk/javascript.sh and scripts/tools/telemetrygen.sh install.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"

find_service
needs prometheus curl
# The databases are temporary, and each would otherwise take seconds of syncing.
export RUVVECTOR_TEST_POSTGRES_OPTIONS="-c fsync=off -c full_page_writes=off ${RUVVECTOR_TEST_POSTGRES_OPTIONS:-}"
scripts/with-postgres.sh python3 -m tests.docs.run "$binary" "$@"
