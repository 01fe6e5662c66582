#!/usr/bin/env bash
# Checks the Helm chart, the Dockerfile and compose.yaml, without a cluster and without a container engine. For those who change them.
#
#   scripts/check/chart.sh
#
# The chart is linted, rendered with each of its ci/*-values.yaml, validated by the schemas of several Kubernetes versions, checked
# by its promises, upgraded from one set of values to another, and rendered with bad values, which it has to refuse. The
# Dockerfile is linted, its copied files are compared with those that the compiler read, and the image's root is built by the
# same script; compose.yaml is compared with the files that it mounts. The debug build has to accept the settings of all three,
# to run in the image's root, and to do the work of each of the chart's pods on a real PostgreSQL. Needs promtool, openssl,
# psql, PostgreSQL's programs and Python with venv; installs helm and Python's packages into target/helm.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"
beside_postgres "$@"

# The list of files that the compiler read is beside the debug build.
find_service target/debug/ruvvector-service
needs promtool openssl psql
promtool=$(command -v promtool)
helm=$(scripts/tools/helm.sh)
environment=target/helm/venv
install_packages "$environment" tests/helm/requirements.txt
"$environment/bin/hadolint" --failure-threshold info Dockerfile
"$environment/bin/python" -m tests.helm.image "$binary"
"$environment/bin/python" -m tests.helm.compose "$promtool" "$binary"
"$environment/bin/python" -m tests.helm.chart "$helm" "$promtool" "$binary"
"$environment/bin/python" -m tests.helm.live "$helm" "$binary"
