#!/usr/bin/env bash
# Runs every test, on a machine that has Rust and nothing else.
#
#   scripts/test.sh             everything, for those who check the product
#   scripts/test.sh --quick     for developers: format, lints, unit tests, and the part of the suite that needs neither PostgreSQL
#                               nor another program; it takes a few minutes after a build and installs nothing
#
# Missing packages of the system are installed, as root or by sudo: PostgreSQL's server programs, Prometheus and its
# Alertmanager, strace, groff, systemd's programs, Python's venv and yaml, curl, Chromium, Java and Maven, nginx, HAProxy,
# PgBouncer and valgrind. SDKs and other programs are installed below target/, in the versions of scripts/tools/versions.txt.
# Servers run in temporary directories on free ports, never as root, and are removed. No test is skipped: a missing program is an
# error.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$root"

started=$SECONDS step=
report_failure() { [ -z "$step" ] || printf '\n== %s FAILED (exit code %s)\n' "$step" "$1" >&2; }
trap 'report_failure $?' EXIT
# step NAME COMMAND…: runs a command. It is neither in `if` nor before `||`, which would disable `set -e` inside of it.
step() {
    local from=$SECONDS
    step=$1
    shift
    printf '\n== %s\n' "$step"
    "$@"
    printf '== %s: %s s\n' "$step" $((SECONDS - from))
    step=
}
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo --non-interactive "$@"
    else
        fail "needs root to run: $*"
    fi
}

# On Debian, PostgreSQL's server programs are outside the search path.
have_postgres() {
    [ -n "${RUVVECTOR_TEST_POSTGRES_BIN:-}" ] || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ||
        command -v initdb >/dev/null
}
have_venv() { python3 -c 'import venv, ensurepip' 2>/dev/null; }
have_yaml() { python3 -c 'import yaml' 2>/dev/null; }

# Each line has a program and the package of Debian that contains it.
programs() {
    cat <<'TABLE'
cc gcc
chromium chromium
curl curl
groff groff-base
haproxy haproxy
javac default-jdk-headless
mvn maven
nginx nginx-light
openssl openssl
pgbouncer pgbouncer
prometheus prometheus
prometheus-alertmanager prometheus-alertmanager
promtool prometheus
psql postgresql-client
strace strace
systemd-analyze systemd
valgrind valgrind
TABLE
}

packages() {
    local missing=() program package
    while read -r program package; do
        command -v "$program" >/dev/null || missing+=("$package")
    done < <(programs)
    command -v cc >/dev/null || missing+=(libc6-dev)
    have_postgres || missing+=(postgresql)
    have_venv || missing+=(python3 python3-venv)
    have_yaml || missing+=(python3-yaml)
    if [ ${#missing[@]} -gt 0 ]; then
        command -v apt-get >/dev/null || fail "install these with your system's package manager: ${missing[*]}"
        printf 'installing %s\n' "${missing[*]}"
        as_root apt-get update -qq
        # RUNLEVEL=1 keeps a package from starting its server.
        as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
            fail "could not install: ${missing[*]}"
    fi
    while read -r program _; do needs "$program"; done < <(programs)
    have_postgres || fail "PostgreSQL's server programs (initdb, pg_ctl) are missing; install the package 'postgresql'"
    have_venv || fail "Python's venv is missing; install the package 'python3-venv'"
    have_yaml || fail "Python's yaml is missing; install the package 'python3-yaml'"
}

tools() {
    local language
    for language in python javascript java go rust; do "scripts/tools/sdk/$language.sh"; done
    scripts/tools/reference-collector.sh >/dev/null
    scripts/tools/telemetrygen.sh
    scripts/tools/prometheus3.sh >/dev/null
}

cargo_tests() {
    scripts/with-postgres.sh timeout 2400 cargo test --quiet --no-fail-fast
}

# The oldest supported server; scripts/check/other-postgres.sh runs newer ones, too.
oldest_postgres() {
    scripts/check/other-postgres.sh 14 -- timeout 1200 cargo test --quiet --no-fail-fast --test suite -- postgres:: write:: query::
}

check_scripts() {
    local each
    for each in scripts/*.sh scripts/*/*.sh scripts/tools/sdk/*.sh .ci/run; do
        bash -n "$each"
        [ -x "$each" ] || [ "$each" = scripts/lib.sh ] || fail "$each is not executable"
    done
    scripts/check/versions.sh
}

# The parts of the suite that run on SQLite and in the process itself.
quick_suite() {
    cargo test --quiet --no-fail-fast --test suite -- \
        command_line:: config:: decode:: journal:: listen:: log_lines:: source:: sqlite:: supervisor:: \
        receive::connections:: receive::grpc:: receive::head:: receive::native:: receive::otlp:: receive::transport:: \
        --skip decode::jsonb::
}

command -v cargo >/dev/null || fail "cargo is missing: install Rust"
case ${1:-} in
'') ;;
--quick)
    step 'scripts' check_scripts
    step 'format' cargo fmt --check
    step 'lints' cargo clippy --quiet --all-targets -- -D warnings
    step 'unit tests' cargo test --quiet --lib
    step 'suite on SQLite' quick_suite
    printf '\nall passed in %s s\n' $((SECONDS - started))
    exit
    ;;
*) fail "unknown argument $1; there is --quick, or none" ;;
esac
step 'packages' packages
step 'tools and SDKs' tools
step 'scripts' check_scripts
step 'format' cargo fmt --check
step 'lints' cargo clippy --quiet --all-targets -- -D warnings
step 'build' cargo test --quiet --no-run
step 'instructions' scripts/check/instructions.sh
step 'dashboards' scripts/check/dashboards.sh
step 'alerts' scripts/check/alerts.sh
step 'outage' scripts/check/outage.sh
step 'chart and image' scripts/check/chart.sh
step 'systemd unit' scripts/check/systemd.sh
step 'proxies' scripts/check/proxies.sh
step 'docs' scripts/check/docs.sh
step 'tests' cargo_tests
step 'PostgreSQL 14' oldest_postgres
printf '\nall passed in %s s\n' $((SECONDS - started))
