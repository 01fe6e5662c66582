#!/usr/bin/env bash
# Checks the chart, the Dockerfile and compose.yaml, without a cluster and without an engine.
#
#   scripts/check-helm.sh
#
# Builds the pinned helm and installs tests/helm/requirements.txt into target/helm where they are not there yet. The chart
# is linted, rendered with each of its ci/*-values.yaml, read by the schemas of several Kubernetes versions and held to its
# promises; bad values have to be refused. The Dockerfile is linted, compose.yaml held against what it mounts, and the
# image's root file system laid out by the script that the Dockerfile runs. A binary in target/debug, where there is one, has
# to understand what chart, image and compose.yaml give it, and to run in that root.
set -euo pipefail
cd "$(dirname "$0")/.."

version=3.22.0
home=$PWD/target/helm
helm=$home/helm-$version
binary=$PWD/target/debug/ruvvector-service
requirements=tests/helm/requirements.txt
fail() { printf 'check-helm.sh: %s\n' "$1" >&2; exit 1; }

install_all() {
    mkdir -p "$home"
    if [ ! -x "$helm" ]; then
        local go
        go=$(scripts/find-go.sh)
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
}

# What the Dockerfile's steps make, made by hand: the binary runs in it, not as root, and asks for a store.
check_root() {
    local root said
    root=$(mktemp -d)
    chmod 755 "$root"
    # shellcheck disable=SC2064
    trap "rm -rf '$root'" EXIT
    scripts/container-root.sh "$binary" "$root"
    mkdir -m 777 "$root/data"
    inside() {
        local -a as=(unshare --map-root-user chroot)
        if [ "$(id -u)" = 0 ]; then
            as=(chroot --userspec=65532:65532)
        fi
        env -i PATH="$PATH:/usr/sbin:/sbin" RUVVECTOR_BIND='[::]' RUVVECTOR_DATA_DIR=/data "$@" "${as[@]}" "$root" \
            /usr/bin/ruvvector-service validate 2>&1
    }
    inside RUVVECTOR_STORE=sqlite >/dev/null || fail 'the binary does not run in the image'
    if said=$(inside RUVVECTOR_STORE=not-named); then
        fail 'the image starts without a store'
    fi
    case $said in
    *RUVVECTOR_STORE*sqlite*) ;;
    *) fail "the image does not say that a store is missing: $said" ;;
    esac
}

install_all
"$home/venv/bin/hadolint" --failure-threshold info Dockerfile
if [ -x "$binary" ]; then
    check_root
    set -- "$binary"
else
    set --
fi
"$home/venv/bin/python" tests/helm/compose.py "$(command -v promtool)" "$@"
"$home/venv/bin/python" tests/helm/chart.py "$helm" "$(command -v promtool)" "$@"
