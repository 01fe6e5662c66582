#!/usr/bin/env bash
# Checks the chart, the Dockerfile and compose.yaml, without a cluster and without an engine.
#
#   scripts/with-postgres.sh scripts/check/chart.sh
#
# Builds the pinned helm and installs tests/helm/requirements.txt into target/helm where they are not there yet. The chart
# is linted, rendered with each of its ci/*-values.yaml, read by the schemas of several Kubernetes versions and held to its
# promises, and so are upgrades from one set of values to another; bad values have to be refused. The Dockerfile is linted,
# what it copies is held against what the compiler read, and the image's root is laid out by the script that the Dockerfile
# runs; compose.yaml is held against what it mounts. The binary in target/debug has to understand what chart, image and
# compose.yaml give it, to live in that root, and to do with a real PostgreSQL what each pod of the chart is there for.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=3.22.0
home=$PWD/target/helm
helm=$home/helm-$version
binary=$PWD/target/debug/ruvvector-service
requirements=tests/helm/requirements.txt
fail() { printf 'chart.sh: %s\n' "$1" >&2; exit 1; }

install_all() {
    mkdir -p "$home"
    if [ ! -x "$helm" ]; then
        local go
        go=$(scripts/tools/find-go.sh)
        printf 'building helm %s …\n' "$version" >&2
        GOTOOLCHAIN=local GOBIN="$home" "$go" install "helm.sh/helm/v3/cmd/helm@v$version" 2>"$home/build.log" ||
            { tail -n 30 "$home/build.log" >&2; exit 1; }
        mv "$home/helm" "$helm"
    fi
    if ! cmp -s "$requirements" "$home/installed.txt"; then
        rm -rf "$home/venv"
        python3 -m venv "$home/venv"
        "$home/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary=:all: --require-hashes \
            -r "$requirements"
        cp "$requirements" "$home/installed.txt"
    fi
    command -v promtool >/dev/null || fail "promtool is missing; install the package 'prometheus'"
    command -v openssl >/dev/null || fail "openssl is missing; install the package 'openssl'"
}

install_all
[ -n "${RUVVECTOR_TEST_POSTGRES_URL:-}" ] || fail 'wants a PostgreSQL: run it under scripts/with-postgres.sh'
[ -x "$binary" ] || fail "$binary is missing: cargo build"
promtool=$(command -v promtool)
"$home/venv/bin/hadolint" --failure-threshold info Dockerfile
"$home/venv/bin/python" tests/helm/image.py "$binary"
"$home/venv/bin/python" tests/helm/compose.py "$promtool" "$binary"
"$home/venv/bin/python" tests/helm/chart.py "$helm" "$promtool" "$binary"
"$home/venv/bin/python" tests/helm/live.py "$helm" "$binary"
