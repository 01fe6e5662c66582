#!/usr/bin/env bash
# Runs the tests of crashes and outages more often and for much longer than scripts/test.sh does. Before a release.
#
#   scripts/check/faults.sh [TEST…]          for example: scripts/check/faults.sh faults::outage
#
# The head of tests/suite/faults.rs describes the variables; a variable that is set keeps its value. Needs what the suite needs:
# Rust, PostgreSQL's programs and strace.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"

export RUVVECTOR_TEST_KILLS=${RUVVECTOR_TEST_KILLS:-1000}
export RUVVECTOR_TEST_OUTAGE_SECONDS=${RUVVECTOR_TEST_OUTAGE_SECONDS:-600}
export RUVVECTOR_TEST_CRASHES=${RUVVECTOR_TEST_CRASHES:-30}
export RUVVECTOR_TEST_COPIES=${RUVVECTOR_TEST_COPIES:-10}
export RUVVECTOR_TEST_STOPS=${RUVVECTOR_TEST_STOPS:-20}
export RUVVECTOR_TEST_BODIES=${RUVVECTOR_TEST_BODIES:-64}
export RUVVECTOR_TEST_GROWING=${RUVVECTOR_TEST_GROWING:-128}
export RUVVECTOR_TEST_GROWING_ITEMS=${RUVVECTOR_TEST_GROWING_ITEMS:-200000}
export RUVVECTOR_TEST_LARGE_RECORDS=${RUVVECTOR_TEST_LARGE_RECORDS:-8}
export RUVVECTOR_TEST_CALLS=${RUVVECTOR_TEST_CALLS:-60}

[ $# -gt 0 ] || set -- faults::
exec scripts/with-postgres.sh cargo test --test suite -- --test-threads=1 "$@"
