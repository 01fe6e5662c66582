#!/usr/bin/env bash
# Checks the systemd unit and runs the service under its restrictions, on a machine with or without systemd. For those who change
# the unit, or the system calls of the service.
#
#   scripts/check/systemd.sh
#
# `systemd-analyze` verifies and rates the unit, alone and with postgresql.conf. Then the service starts, accepts and stores events,
# stops and recovers, with SQLite and with PostgreSQL, while strace records its system calls. It runs as a user without rights,
# can write only to its directory, and is under the unit's filters of system calls, address families and executable memory.
# Only systemd itself provides DynamicUser=, credentials, the watchdog, and Private…= and Protect…= beyond the read-only root;
# these are not tested here. RUVVECTOR_BINARY names another binary than target/debug/ruvvector-service. Needs systemd-analyze,
# strace, curl, unshare, setpriv, the system's python3, and PostgreSQL's programs.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"
beside_postgres "$@"

# Of 100. The remaining exposure is the network, which the service exists for.
exposure_max=12
units=$PWD/scripts/operate/systemd
# Every user may run the system's own Python.
python=/usr/bin/python3
find_service
needs systemd-analyze strace curl unshare setpriv "$python"

temporary_directory systemd
chmod 755 "$dir"
install -m 755 "$binary" "$dir/ruvvector-service"
install -m 644 tests/systemd/sandbox.py "$dir/"

# verify DIRECTORY: fails if systemd-analyze reports anything about the unit in the directory.
verify() {
    local report
    report=$(systemd-analyze verify --man=no "$1/ruvvector-service.service" 2>&1) || fail "verify: $report"
    [ -z "$report" ] || fail "verify: $report"
    systemd-analyze security --no-pager --offline=true --threshold="$exposure_max" "$1/ruvvector-service.service" >"$dir/rating" ||
        { cat "$dir/rating" >&2; fail "its exposure is above $exposure_max of 100"; }
    printf '%s\n' "$(tail -n 1 "$dir/rating")"
}
for with in alone postgresql; do
    mkdir "$dir/$with"
    sed "s|^ExecStart=/usr/bin/|ExecStart=$dir/|" "$units/ruvvector-service.service" >"$dir/$with/ruvvector-service.service"
done
unit=$dir/alone/ruvvector-service.service
mkdir "$dir/postgresql/ruvvector-service.service.d"
cp "$units/postgresql.conf" "$dir/postgresql/ruvvector-service.service.d/"
verify "$dir/alone"
verify "$dir/postgresql"

# start_in_sandbox STATE TRACE VARIABLE…: starts the service under the unit's restrictions and waits until it is ready.
start_in_sandbox() {
    local state=$1 trace=$2 file=$2.log
    shift 2
    : >"$file"
    chmod 666 "$file"
    # The state's directory becomes a separate mount, which stays writable when all others become read-only.
    # shellcheck disable=SC2016
    local inside='
        set -e
        mount --make-rprivate /
        mount --bind "$1" "$1"
        while read -r _ _ _ _ at _; do
            at=$(printf %b "$at")
            case $at in "$1" | /proc | /proc/* | /sys | /sys/* | /dev | /dev/*) continue ;; esac
            mount -o remount,bind,ro "$at" 2>/dev/null || mount -o remount,bind,ro,nosuid,nodev "$at" 2>/dev/null || true
        done </proc/self/mountinfo
        ! touch "${0%/*}/written" 2>/dev/null || { echo "the root is writable" >&2; exit 1; }
        shift
        exec "$@"'
    local -a namespace=(unshare --mount) user=()
    if [ "$(id -u)" = 0 ]; then
        user=(setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs)
        chown 65534:65534 "$state"
    else
        namespace=(unshare --mount --map-root-user)
        # Mounts need root in the namespace; the service must run without it.
        user=(unshare --user --map-user=65534 --map-group=65534 setpriv --no-new-privs)
    fi
    # The shell opens the trace, as strace runs in a read-only root later.
    env -i PATH="$PATH" RUVVECTOR_DATA_DIR="$state" RUVVECTOR_SERVICE_PORT=0 RUVVECTOR_OTLP_HTTP_PORT=0 \
        RUVVECTOR_OTLP_GRPC_PORT=0 NOTIFY_SOCKET=@nobody-listens WATCHDOG_USEC=1000000 "$@" \
        strace -f -qq -o "|cat >'$trace'" -e signal=none \
        "${namespace[@]}" bash -c "$inside" "$dir/inside" "$state" \
        "${user[@]}" "$python" "$dir/sandbox.py" run "$unit" "$dir/ruvvector-service" serve >"$file" 2>&1 &
    service=$!
    await_service "$file"
}

# signal_service SIGNAL: sends a signal to the service itself, which strace runs.
signal_service() { pkill --full --exact "-$1" "$dir/ruvvector-service serve"; }
check_calls() { "$python" tests/systemd/sandbox.py calls "$unit" "$1" "$dir/ruvvector-service"; }
smoke() { scripts/operate/smoke.sh "$main" >"$dir/smoke.log" || fail "smoke.sh fails under the unit, $1"; }

# check_store NAME VARIABLE…: runs the service on a store, kills it, and runs it again, when it recovers its journal.
check_store() {
    local name=$1 state=$dir/state-$1
    shift
    mkdir -m 700 "$state"
    printf -- '-- %s\n' "$name"
    start_in_sandbox "$state" "$dir/$name-1" "$@"
    smoke "$name"
    signal_service KILL
    wait "$service" 2>/dev/null || true
    check_calls "$dir/$name-1"
    start_in_sandbox "$state" "$dir/$name-2" "$@"
    smoke "$name, after a kill"
    signal_service TERM
    wait "$service" || fail 'the service does not stop in order'
    check_calls "$dir/$name-2"
}

check_store sqlite RUVVECTOR_STORE=sqlite
printf '%s\n' "${RUVVECTOR_TEST_POSTGRES_URL/127.0.0.1/localhost}" >"$dir/database_url"
check_store postgres RUVVECTOR_STORE=postgres DATABASE_URL_FILE="$dir/database_url"
