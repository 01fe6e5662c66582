#!/usr/bin/env bash
# Builds the test program for OpenTelemetry's Rust SDK: target/sdk/rust/run. For the tests; tests/sdk/README.md describes it.
#
#   scripts/tools/sdk/rust.sh
#
# The program's own Cargo.lock pins every package. Needs Rust.
set -euo pipefail
. "$(dirname "$0")/../../lib.sh"
cd "$root"

needs cargo
cargo build --quiet --locked --manifest-path tests/sdk/rust/Cargo.toml --target-dir target/sdk/rust
ln -sf debug/sdk target/sdk/rust/run
