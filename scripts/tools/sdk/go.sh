#!/usr/bin/env bash
# Builds the test program for OpenTelemetry's Go SDK: target/sdk/go/run. For the tests; tests/sdk/README.md describes it.
#
#   scripts/tools/sdk/go.sh
#
# go.sum pins every module. Needs what scripts/tools/find-go.sh needs.
set -euo pipefail
. "$(dirname "$0")/../../lib.sh"
cd "$root"

go=$(scripts/tools/find-go.sh)
GOTOOLCHAIN=local "$go" build -C tests/sdk/go -mod=readonly -buildvcs=false -o "$PWD/target/sdk/go/run" .
