"""Measures the service beside its floors: `scripts/bench/bench.sh` is the command, docs/performance.md the method."""
