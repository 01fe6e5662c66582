#!/usr/bin/env bash
# Runs a command beside a private PostgreSQL, which is in a temporary directory and on a free port. For developers and tests.
#
#   scripts/with-postgres.sh cargo test --test suite query::
#
# The command receives a superuser's URL in RUVVECTOR_TEST_POSTGRES_URL and the directory of the server's programs in
# RUVVECTOR_TEST_POSTGRES_BIN. RUVVECTOR_TEST_POSTGRES_BIN can name the programs to use, RUVVECTOR_TEST_POSTGRES_OPTIONS further
# options of the server. Server and data are removed when the command ends. Root runs the server as the user `postgres`. Needs
# initdb and pg_ctl, of the package `postgresql`.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

bin=${RUVVECTOR_TEST_POSTGRES_BIN:-}
if [ -z "$bin" ]; then
    bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort --version-sort | tail -n 1 || true)
    [ -n "$bin" ] || bin=$(dirname "$(command -v initdb || echo /)")
fi
[ -x "$bin/initdb" ] ||
    fail "initdb and pg_ctl are missing; install the package 'postgresql' or set RUVVECTOR_TEST_POSTGRES_BIN"

temporary_directory postgres
as=()
if [ "$(id -u)" = 0 ]; then
    chown postgres "$dir"
    as=(runuser -u postgres --)
fi
# The server's user may not be able to read the working directory.
server() { (cd / && "${as[@]}" "$bin/$1" -D "$dir/data" "${@:2}"); }
stop() {
    server pg_ctl -m immediate -w stop >/dev/null 2>&1 || true
    clean_up
}
trap stop EXIT

server initdb -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/initdb.log" 2>&1 || fail 'initdb failed'
for _ in 1 2 3 4 5; do
    port=$(free_port)
    if server pg_ctl -l "$dir/server.log" -w -t 60 \
        -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200 ${RUVVECTOR_TEST_POSTGRES_OPTIONS:-}" \
        start >/dev/null 2>&1; then
        started=1
        break
    fi
done
[ -n "${started:-}" ] || fail 'the server did not start'

export RUVVECTOR_TEST_POSTGRES_URL="postgres://postgres@127.0.0.1:$port/postgres"
export RUVVECTOR_TEST_POSTGRES_BIN="$bin"
"$@"
