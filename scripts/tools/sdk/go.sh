#!/usr/bin/env bash
# Builds the program on the SDK for Go: target/sdk/go/run. Every module is pinned by go.sum.
set -euo pipefail
cd "$(dirname "$0")/../../.."

go=$(scripts/tools/find-go.sh)
GOTOOLCHAIN=local "$go" build -C tests/sdk/go -mod=readonly -buildvcs=false -o "$PWD/target/sdk/go/run" .
