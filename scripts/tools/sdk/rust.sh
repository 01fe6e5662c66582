#!/usr/bin/env bash
# Builds the program on the SDK for Rust: target/sdk/rust/run. Every package is pinned by its own Cargo.lock.
set -euo pipefail
cd "$(dirname "$0")/../../.."

dir=$PWD/target/sdk/rust
cargo build --quiet --locked --manifest-path tests/sdk/rust/Cargo.toml --target-dir "$dir"
ln -sf debug/sdk "$dir/run"
