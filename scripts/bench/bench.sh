#!/usr/bin/env bash
# Measures the release build against its floors and targets on this machine. docs/performance.md has the method and the results.
#
#   scripts/bench/bench.sh list                          names the targets, with the disk that each needs
#   scripts/bench/bench.sh receive end-to-end            measures these
#   scripts/bench/bench.sh all                           measures every target; takes hours
#
# Options, with their defaults in scripts/bench/__main__.py:
#   --binary FILE        measures this build instead of building one
#   --against FILE       measures a second build of the service in the same run, alternately
#   --pairs N            number of alternating rounds, instead of each target's
#   --seconds N          length of one measurement of throughput, instead of each target's
#   --rows N             rows of the data set of `queries` and `disk`
#   --json FILE          writes all raw figures
#
# A run with fewer rounds, seconds or rows is a trial, and its results say so. The machine should be idle otherwise: the load
# generator shares its cores. Needs Rust, psql, PostgreSQL's server programs, valgrind (for `receive`), Python 3.11 and what
# scripts/tools/reference-collector.sh needs.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"

[ $# -gt 0 ] || usage
needs cargo psql python3
exec python3 -m scripts.bench "$@"
