#!/usr/bin/env bash
# Runs a command beside a private PostgreSQL cluster, in a temporary directory and on a free port, and removes it after.
#
#   scripts/with-postgres.sh cargo test
#
# The command finds it under RUVVECTOR_TEST_POSTGRES_URL (a superuser's URL, over TCP) and the server's programs under
# RUVVECTOR_TEST_POSTGRES_BIN. Never runs the server as root: as root it becomes the user `postgres`.
set -euo pipefail

bin=${RUVVECTOR_TEST_POSTGRES_BIN:-}
if [ -z "$bin" ]; then
    bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1 || true)
    [ -n "$bin" ] || bin=$(dirname "$(command -v initdb 2>/dev/null || echo /)")
fi
[ -x "$bin/initdb" ] || { echo "with-postgres: PostgreSQL's server programs (initdb, pg_ctl) were not found; install the package 'postgresql' or set RUVVECTOR_TEST_POSTGRES_BIN" >&2; exit 1; }

dir=$(mktemp -d "${TMPDIR:-/tmp}/ruvvector-pg.XXXXXX")
as=()
if [ "$(id -u)" = 0 ]; then
    chown postgres "$dir"
    as=(runuser -u postgres --)
fi
stop() {
    (cd / && "${as[@]}" "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1) || true
    rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

cd /
"${as[@]}" "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/initdb.log" 2>&1 ||
    { cat "$dir/initdb.log" >&2; echo "with-postgres: initdb failed" >&2; exit 1; }
for _ in 1 2 3 4 5; do
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    if "${as[@]}" "$bin/pg_ctl" -D "$dir/data" -l "$dir/server.log" -w -t 60 \
        -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200 ${RUVVECTOR_TEST_POSTGRES_OPTIONS:-}" \
        start >/dev/null 2>&1; then
        started=1
        break
    fi
done
[ -n "${started:-}" ] || { tail -n 20 "$dir/server.log" >&2; echo "with-postgres: the server did not start" >&2; exit 1; }
cd - >/dev/null

export RUVVECTOR_TEST_POSTGRES_URL="postgres://postgres@127.0.0.1:$port/postgres"
export RUVVECTOR_TEST_POSTGRES_BIN="$bin"
"$@"
