#!/usr/bin/env bash
# Checks the unit of systemd, and runs the binary under what it forbids, on a machine whose PID 1 may be anything.
#
#   scripts/with-postgres.sh scripts/check/systemd.sh
#
# `systemd-analyze` reads the unit, alone and with postgresql.conf, and rates it. Then target/debug/ruvvector-service starts,
# takes events, stores, stops and recovers, with SQLite and with PostgreSQL, and strace watches: as a user without rights, on a
# root that cannot be written but for its directory, under the unit's own filters of system calls, address families and
# memory that is written and executed. Not tried here, as systemd alone makes them: DynamicUser=, credentials, the watchdog,
# Private…= and Protect…= beyond the read-only root. Installs Debian's package `systemd` where systemd-analyze is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

# Of 100; what is left is the network, which is what the service is for.
exposure_max=12
binary=$PWD/target/debug/ruvvector-service
units=$PWD/scripts/operate/systemd
fail() { printf 'systemd.sh: %s\n' "$1" >&2; exit 1; }

if ! command -v systemd-analyze >/dev/null; then
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo --non-interactive)
    "${as_root[@]}" apt-get update -qq
    # On a machine with another PID 1 it is programs and files, and starts nothing.
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends systemd >/dev/null ||
        fail "systemd-analyze is missing; install the package 'systemd'"
fi
for program in systemd-analyze strace curl unshare setpriv; do
    command -v "$program" >/dev/null || fail "$program is missing; install it with your system's package manager"
done
# The system's own, which every user may run.
python=/usr/bin/python3
[ -x "$python" ] || fail "$python is missing; install the package 'python3'"
[ -x "$binary" ] || fail "$binary is missing: cargo build"
[ -n "${RUVVECTOR_TEST_POSTGRES_URL:-}" ] || fail 'run it by scripts/with-postgres.sh'

dir=$(mktemp -d)
service=
ended() {
    [ -z "$service" ] || kill -KILL "$service" 2>/dev/null || true
    rm -rf "$dir"
}
trap ended EXIT
chmod 755 "$dir"
install -m 755 "$binary" "$dir/ruvvector-service"
install -m 644 tests/systemd/sandbox.py "$dir/"

# verify UNIT-DIRECTORY: not a word.
verify() {
    local said
    said=$(systemd-analyze verify --man=no "$1/ruvvector-service.service" 2>&1) || fail "verify: $said"
    [ -z "$said" ] || fail "verify: $said"
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

# life STATE TRACE VARIABLE…: starts the service in the sandbox and waits until it is ready.
life() {
    local state=$1 trace=$2 file=$2.lines
    shift 2
    : >"$file"
    chmod 666 "$file"
    # The state's directory becomes a mount of its own, so that it stays as it is when all others turn read-only.
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
        ! touch "${0%/*}/written" 2>/dev/null || { echo "the root can be written" >&2; exit 1; }
        shift
        exec "$@"'
    local -a namespace=(unshare --mount) user=()
    if [ "$(id -u)" = 0 ]; then
        user=(setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs)
        chown 65534:65534 "$state"
    else
        namespace=(unshare --mount --map-root-user)
        # To mount, it has to be root in there; the service must not be.
        user=(unshare --user --map-user=65534 --map-group=65534 setpriv --no-new-privs)
    fi
    # The trace is a file that was opened before.
    env -i PATH="$PATH" RUVVECTOR_DATA_DIR="$state" RUVVECTOR_SERVICE_PORT=0 RUVVECTOR_OTLP_HTTP_PORT=0 \
        RUVVECTOR_OTLP_GRPC_PORT=0 NOTIFY_SOCKET=@nobody-listens WATCHDOG_USEC=1000000 "$@" \
        strace -f -qq -o "|cat >'$trace'" -e signal=none \
        "${namespace[@]}" bash -c "$inside" "$dir/inside" "$state" \
        "${user[@]}" "$python" "$dir/sandbox.py" run "$unit" "$dir/ruvvector-service" serve >"$file" 2>&1 &
    service=$!
    for _ in $(seq 600); do
        url=$(sed -n 's/.*"listener":"main".*"address":"\([^",]*\).*/\1/p; s/.*"address":"\([^",]*\).*"listener":"main".*/\1/p' "$file")
        if [ -n "$url" ] && curl --silent --fail --max-time 5 "$url/health/ready" >/dev/null; then
            return
        fi
        kill -0 "$service" 2>/dev/null || break
        sleep 0.1
    done
    cat "$file" >&2
    fail 'the service does not start under the unit'
}

# over TRACE: stops it in order.
over() {
    local pid
    pid=$(pgrep --full --exact "$dir/ruvvector-service serve")
    kill -TERM "$pid"
    wait "$service" || { cat "$1.lines" >&2; fail 'it does not stop in order'; }
    service=
    "$python" tests/systemd/sandbox.py calls "$unit" "$1" "$dir/ruvvector-service"
}

# store NAME VARIABLE…: a life, and another one that recovers what a kill left.
store() {
    local name=$1 state=$dir/state-$1 url
    shift
    mkdir -m 700 "$state"
    printf -- '-- %s\n' "$name"
    life "$state" "$dir/$name-1" "$@"
    scripts/operate/smoke.sh "$url" >"$dir/smoke" || { cat "$dir/smoke" >&2; fail "smoke.sh under the unit, $name"; }
    pkill --full --exact -KILL "$dir/ruvvector-service serve"
    wait "$service" 2>/dev/null || true
    "$python" tests/systemd/sandbox.py calls "$unit" "$dir/$name-1" "$dir/ruvvector-service"
    life "$state" "$dir/$name-2" "$@"
    scripts/operate/smoke.sh "$url" >"$dir/smoke" || { cat "$dir/smoke" >&2; fail "smoke.sh under the unit, $name, again"; }
    over "$dir/$name-2"
}

store sqlite RUVVECTOR_STORE=sqlite
printf '%s\n' "${RUVVECTOR_TEST_POSTGRES_URL/127.0.0.1/localhost}" >"$dir/database_url"
store postgres RUVVECTOR_STORE=postgres DATABASE_URL_FILE="$dir/database_url"
