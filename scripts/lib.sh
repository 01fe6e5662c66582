# shellcheck shell=bash
# Functions that the scripts share: failures, versions, packages, temporary files, PostgreSQL and the service.
#
#   set -euo pipefail
#   . "$(dirname "$0")/../lib.sh"
#
# A script sources this file before it changes the working directory. `root` is then the project's directory and `script` the
# script's own path. Two scripts stand alone, because people copy them without the others: operate/smoke.sh and
# operate/container-root.sh.

# `cd` and `pwd` keep symbolic links: scripts/ may be a link into another copy of the project.
script=$(cd "$(dirname "$0")" && pwd)/${0##*/}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Debian installs servers outside the search path of ordinary users.
PATH=$PATH:/usr/sbin

# Temporary directory of this script, if it has one.
dir=''

# fail MESSAGE: ends the script with the message, the last lines of all logs in `dir`, and the exit code `failure_code`.
failure_code=1
fail() {
    printf '%s: %s\n' "${script#"$root/"}" "$1" >&2
    [ -z "$dir" ] || tail -n 15 "$dir"/*.log >&2 2>/dev/null || true
    exit "$failure_code"
}

# usage: prints the comment at the head of the script and ends it.
usage() {
    sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$script" >&2
    exit 2
}

# needs PROGRAM…: fails unless each program can be run.
needs() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || fail "$program is missing; install it with your system's package manager"
    done
}

# find_service [BINARY]: sets `binary` to the built service: the argument, RUVVECTOR_BINARY, or the debug build.
find_service() {
    binary=$(realpath --canonicalize-missing "${1:-${RUVVECTOR_BINARY:-$root/target/debug/ruvvector-service}}")
    [ -x "$binary" ] || fail "$binary is missing; build it with: cargo build"
}

# version NAME: prints the version in tools/versions.txt.
version() {
    awk -v name="$1" '$1 == name { print $2; found = 1 } END { exit !found }' "$root/scripts/tools/versions.txt" ||
        fail "scripts/tools/versions.txt has no version of $1"
}

# install_packages VENV REQUIREMENTS…: creates a Python environment with exactly these packages, unless it exists already.
install_packages() {
    local venv=$1 pinned=("${@:2}")
    if ! cat "${pinned[@]}" | cmp --silent - "$venv/installed.txt"; then
        rm -rf "$venv"
        python3 -m venv "$venv" || fail "Python's venv is missing; install the package 'python3-venv'"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary=:all: --require-hashes \
            "${pinned[@]/#/--requirement=}"
        cat "${pinned[@]}" >"$venv/installed.txt"
    fi
}

# go_install DIRECTORY ARGUMENT…: builds programs by `go install` into the directory; the log is beside it.
go_install() {
    local go
    go=$("$root/scripts/tools/find-go.sh")
    GOTOOLCHAIN=local GOBIN=$1 "$go" install "${@:2}" 2>"$1.log" || {
        tail -n 30 "$1.log" >&2
        fail "the build failed; its whole log is $1.log"
    }
}

# cargo_executable NAME ARGUMENT…: builds a test or benchmark by `cargo ARGUMENT…` and prints the path of its executable.
cargo_executable() {
    cargo "${@:2}" --quiet --no-run --message-format=json | grep -o "\"executable\":\"[^\"]*/$1-[^\"]*\"" | tail -n 1 |
        cut -d '"' -f 4 | grep . || fail "$1 did not build"
}

# temporary_directory NAME: sets `dir`. When the script ends, so do its background processes, and the directory is removed.
temporary_directory() {
    dir=$(mktemp -d "${TMPDIR:-/tmp}/ruvvector-$1.XXXXXX")
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}
clean_up() {
    local deadline=$((SECONDS + 5))
    # Bash reports killed processes there.
    exec 2>/dev/null
    # shellcheck disable=SC2046 # The output is a list of process ids.
    kill $(jobs -rp) || true
    while [ -n "$(jobs -rp)" ] && [ "$SECONDS" -lt "$deadline" ]; do sleep 0.1; done
    # shellcheck disable=SC2046
    kill -KILL $(jobs -rp) || true
    wait || true
    rm -rf "$dir"
}

# beside_postgres "$@": starts the script again beside a private PostgreSQL, unless it runs beside one already.
beside_postgres() {
    [ -n "${RUVVECTOR_TEST_POSTGRES_URL:-}" ] || exec "$root/scripts/with-postgres.sh" "$script" "$@"
}

free_port() { (cd "$root" && python3 -c 'from tests.common.ports import free_port; print(free_port())'); }

# await COMMAND…: repeats the command until it succeeds, for at most 60 s.
await() {
    local deadline=$((SECONDS + 60))
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || fail "not within 60 s: $*"
        sleep 0.1
    done
}

# start_service NAME SETTING=VALUE…: runs `binary` with its data in $dir/NAME and its log in $dir/NAME.log, and waits until it
# is ready. Sets `service` to its process, and `main`, `otlp_http` and `otlp_grpc` to the URLs of its listeners.
start_service() {
    local log=$dir/$1.log
    env --ignore-environment PATH="$PATH" RUVVECTOR_DATA_DIR="$dir/$1" RUVVECTOR_BIND=127.0.0.1 RUVVECTOR_SERVICE_PORT=0 \
        RUVVECTOR_OTLP_HTTP_PORT=0 RUVVECTOR_OTLP_GRPC_PORT=0 RUVVECTOR_LOG_FORMAT=json "${@:2}" "$binary" >"$log" 2>&1 &
    service=$!
    await_service "$log"
}
await_service() {
    local deadline=$((SECONDS + 60))
    until main=$(listener main "$1") && curl --silent --fail --output /dev/null --max-time 5 "$main/health/ready"; do
        kill -0 "$service" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ] || fail 'the service does not start'
        sleep 0.1
    done
    # A listener may be off.
    # shellcheck disable=SC2034 # The scripts read both.
    otlp_http=$(listener otlp_http "$1") || true
    # shellcheck disable=SC2034
    otlp_grpc=$(listener otlp_grpc "$1") || true
}
# listener NAME LOG: prints the URL of a listener, or fails if the service has not opened it yet.
listener() { sed -n "s/.*\"listener\":\"$1\",\"address\":\"\([^\", ]*\).*/\1/p" "$2" | grep .; }

# kill_process PID: kills a background process; bash's report of its end is discarded.
kill_process() {
    { kill -KILL "$1" && wait "$1"; } 2>/dev/null || true
}
