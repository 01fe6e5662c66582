#!/usr/bin/env bash
# Checks what docs/deployment.md tells to put around the service: nginx and HAProxy with TLS before two instances, PgBouncer
# between them and PostgreSQL, each with the very configuration that stands in the document.
#
#   scripts/with-postgres.sh scripts/check/proxies.sh
#
# OpenTelemetry's Python SDK sends over HTTP and gRPC through TLS; then spans are sent through both proxies while one instance
# after the other is stopped and started. Every acknowledged span is in the table, each once, and nobody saw a failure.
# RUVVECTOR_BINARY names another binary than target/debug/ruvvector-service. Needs nginx, haproxy, pgbouncer, openssl, curl,
# psql, and what scripts/tools/sdk/python.sh installs. Ports are free ones; files are temporary.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
document=$root/docs/deployment.md
binary=${RUVVECTOR_BINARY:-$root/target/debug/ruvvector-service}
python=$root/target/sdk/python/venv/bin/python
# Debian has servers outside the path of ordinary users.
PATH=$PATH:/usr/sbin
# Python's requests would take these for the certificates that it is told.
unset REQUESTS_CA_BUNDLE CURL_CA_BUNDLE

dir=$(mktemp -d "${TMPDIR:-/tmp}/ruvvector-proxies.XXXXXX")
started=()
stop() {
    local pid
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap stop EXIT
fail() {
    printf 'check-proxies: %s\n' "$1" >&2
    tail -n 15 "$dir"/*.log >&2 2>/dev/null || true
    exit 1
}
[ -n "${RUVVECTOR_TEST_POSTGRES_URL:-}" ] || fail 'run it under scripts/with-postgres.sh'
for program in "$binary" "$python" nginx haproxy pgbouncer openssl curl psql; do
    command -v "$program" >/dev/null || fail "$program is missing"
done
await() {
    local until=$((SECONDS + 20))
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$until" ] || fail "never came: $*"
        sleep 0.1
    done
}
# Prints the block of the document that is written to the file of this name.
block() {
    awk -v mark="<!-- docs: file=$1 -->" '
        $0 == mark { marked = 1; next }
        marked == 1 && /^```/ { marked = 2; next }
        marked == 2 && /^```/ { exit }
        marked == 2 { print; lines++ }
        END { exit lines == 0 }' "$document" || fail "docs/deployment.md has no block with the directive file=$1"
}
# The document's names and ports, put to those of the test; what is not found is an error, or the check would pass it over.
put() {
    local file=$1 from to
    shift
    while [ $# -gt 0 ]; do
        from=$1 to=$2
        shift 2
        grep -qF -- "$from" "$file" || fail "$(basename "$file") of docs/deployment.md has no: $from"
        sed -i "s|${from//./\\.}|$to|g" "$file"
    done
}

postgres_url=$RUVVECTOR_TEST_POSTGRES_URL
export PGCONNECT_TIMEOUT=5
# They are no settings of the service.
unset RUVVECTOR_BINARY RUVVECTOR_TEST_POSTGRES_URL RUVVECTOR_TEST_POSTGRES_BIN
# Below those that Linux takes for outgoing connections, or one of these could stand where an instance starts again.
read -r -a port < <("$python" -c '
import random, socket
found = []
while len(found) < 9:
    with socket.socket() as one:
        at = random.randrange(15_000, 32_000)
        try:
            one.bind(("127.0.0.1", at))
        except OSError:
            continue
        found.append(at)
print(*found)')
nginx_port=${port[6]} haproxy_port=${port[7]} bouncer_port=${port[8]}

# A certificate authority of our own, as an internal network has it.
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=Test CA' -keyout "$dir/ca.key" -out "$dir/ca.pem" 2>/dev/null
openssl req -newkey rsa:2048 -nodes -subj '/CN=localhost' -keyout "$dir/privkey.pem" -out "$dir/request.pem" 2>/dev/null
openssl x509 -req -in "$dir/request.pem" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -days 2 \
    -extfile <(echo 'subjectAltName=DNS:localhost,IP:127.0.0.1') -out "$dir/fullchain.pem" 2>/dev/null
cat "$dir/fullchain.pem" "$dir/privkey.pem" >"$dir/haproxy.pem"

# PostgreSQL takes a certificate while it runs. No proxy runs as root; PgBouncer refuses to.
as=()
if [ "$(id -u)" = 0 ]; then
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
    chown -R postgres "$dir"
fi
server=${postgres_url#*@} && server=${server%%/*}
chmod 600 "$dir"/*.key "$dir/privkey.pem"
as_admin() { psql --quiet --no-psqlrc --tuples-only --no-align --set ON_ERROR_STOP=1 "$postgres_url"; }
as_admin >/dev/null <<SQL
ALTER SYSTEM SET ssl_cert_file = '$dir/fullchain.pem';
ALTER SYSTEM SET ssl_key_file = '$dir/privkey.pem';
ALTER SYSTEM SET ssl = on;
SELECT pg_reload_conf();
SQL
block role.sql | as_admin
# By itself, with the certificate looked at; by another authority's it has to be refused.
url="postgres://ruvvector:change-me@$server/telemetry?sslmode=verify-full&sslrootcert=$dir"
migrate() { env RUVVECTOR_CONNECT_TIMEOUT=5s DATABASE_URL="$url/$1" "$binary" migrate >>"$dir/migrate.log" 2>&1; }
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=Another CA' -keyout "$dir/other.key" -out "$dir/other.pem" 2>/dev/null
await migrate ca.pem
! migrate other.pem || fail 'a certificate of an unknown authority passes for verify-full'
grep -q 'UnknownIssuer.*sslrootcert' "$dir/migrate.log" || fail 'what is wrong with the certificate is not told'
! grep -q 'UnknownIssuer.*the database runs' "$dir/migrate.log" || fail 'a certificate is told as a server that is away'
echo 'ok      PostgreSQL over TLS: role and rights as in the document, verify-full'

mkdir "$dir/pgbouncer"
block pgbouncer.ini >"$dir/pgbouncer/pgbouncer.ini"
put "$dir/pgbouncer/pgbouncer.ini" 'host=db.example port=5432' "host=${server%:*} port=${server#*:}" \
    'listen_port = 6432' "listen_port = $bouncer_port" 'listen_addr = 10.0.0.5' 'listen_addr = 127.0.0.1' \
    /etc/pgbouncer "$dir/pgbouncer"
cp "$dir/ca.pem" "$dir/pgbouncer/"
echo '"ruvvector" "change-me"' >"$dir/pgbouncer/userlist.txt"
[ ${#as[@]} = 0 ] || chown -R postgres "$dir/pgbouncer"
(cd / && exec "${as[@]}" pgbouncer --quiet "$dir/pgbouncer/pgbouncer.ini") >"$dir/pgbouncer.log" 2>&1 &
started+=($!)
database="postgres://ruvvector:change-me@127.0.0.1:$bouncer_port/telemetry"
await psql "$database" -c 'SELECT 1'
! DATABASE_URL="$database?options=-c%20search_path%3Dpublic" "$binary" migrate >"$dir/options.log" 2>&1 ||
    fail 'PgBouncer takes options, which docs/deployment.md says it refuses'
grep -q 'startup parameter.*ignore_startup_parameters' "$dir/options.log" || fail 'what PgBouncer refuses is not told'

token=$(openssl rand -hex 32)
instance=()
start() {
    env RUVVECTOR_STORE=postgres DATABASE_URL="$database" RUVVECTOR_DATA_DIR="$dir/data-$1" RUVVECTOR_BIND=127.0.0.1 \
        RUVVECTOR_SERVICE_PORT="${port[$1]}" RUVVECTOR_OTLP_GRPC_PORT="${port[$1 + 2]}" RUVVECTOR_OTLP_HTTP_PORT=off \
        RUVVECTOR_JOURNAL_MAX_BYTES=256MiB RUVVECTOR_JOURNAL_FREE_FLOOR_BYTES=16MiB RUVVECTOR_SHUTDOWN_DELAY=3s \
        RUVVECTOR_MAINTENANCE_INTERVAL=1s RUVVECTOR_AUTH_TOKENS="$token" "$binary" >>"$dir/instance-$1.log" 2>&1 &
    instance[$1]=$!
    started+=($!)
    await curl --silent --fail "http://127.0.0.1:${port[$1]}/health/ready"
}
start 0
start 1

block telemetry.nginx.conf >"$dir/telemetry.nginx.conf"
put "$dir/telemetry.nginx.conf" 10.0.0.11:3100 "127.0.0.1:${port[0]}" 10.0.0.12:3100 "127.0.0.1:${port[1]}" \
    10.0.0.11:4317 "127.0.0.1:${port[2]}" 10.0.0.12:4317 "127.0.0.1:${port[3]}" \
    'listen 443 ' "listen 127.0.0.1:$nginx_port " /etc/ssl/telemetry "$dir"
cat >"$dir/nginx.conf" <<CONF
daemon off;
pid $dir/nginx.pid;
error_log $dir/nginx.log warn;
worker_processes 2;
events {}
http {
    access_log off;
    client_body_temp_path $dir/body;
    proxy_temp_path $dir/proxy;
    fastcgi_temp_path $dir/fastcgi;
    scgi_temp_path $dir/scgi;
    uwsgi_temp_path $dir/uwsgi;
    include $dir/telemetry.nginx.conf;
}
CONF
"${as[@]}" nginx -q -t -e "$dir/nginx.log" -c "$dir/nginx.conf" || fail 'nginx refuses the configuration of docs/deployment.md'
"${as[@]}" nginx -e "$dir/nginx.log" -c "$dir/nginx.conf" &
started+=($!)

block telemetry.haproxy.cfg >"$dir/telemetry.haproxy.cfg"
put "$dir/telemetry.haproxy.cfg" 10.0.0.11:3100 "127.0.0.1:${port[0]}" 10.0.0.12:3100 "127.0.0.1:${port[1]}" \
    10.0.0.11:4317 "127.0.0.1:${port[2]}" 10.0.0.12:4317 "127.0.0.1:${port[3]}" \
    'bind :443 ' "bind 127.0.0.1:$haproxy_port " /etc/ssl/telemetry "$dir"
# Both instances of the test have one address: each server's checks go to its own port.
sed -i -e "/127\.0\.0\.1:\(${port[0]}\|${port[2]}\)/s/\$/ port ${port[0]}/" \
    -e "/127\.0\.0\.1:\(${port[1]}\|${port[3]}\)/s/\$/ port ${port[1]}/" "$dir/telemetry.haproxy.cfg"
printf 'global\n    maxconn 1000\n    stats socket %s/haproxy.socket\n' "$dir" >"$dir/global.cfg"
haproxy -c -f "$dir/global.cfg" -f "$dir/telemetry.haproxy.cfg" >"$dir/haproxy.log" 2>&1 ||
    fail 'HAProxy refuses the configuration of docs/deployment.md'
! grep -qE 'WARNING|ALERT' "$dir/haproxy.log" || fail 'HAProxy warns of the configuration of docs/deployment.md'
"${as[@]}" haproxy -q -db -f "$dir/global.cfg" -f "$dir/telemetry.haproxy.cfg" >"$dir/haproxy.log" 2>&1 &
started+=($!)

# HAProxy knows all four servers as up.
all_up() {
    "$python" -c '
import socket, sys
control = socket.socket(socket.AF_UNIX)
control.connect(sys.argv[1])
control.sendall(b"show stat -1 4 -1\n")
answer = b"".join(iter(lambda: control.recv(65536), b"")).decode()
sys.exit(sum(line.split(",")[17] == "UP" for line in answer.splitlines() if line.startswith("telemetry_")) != 4)' "$dir/haproxy.socket"
}
rows() { psql --no-psqlrc --tuples-only --no-align --set ON_ERROR_STOP=1 "$database" -c "$1"; }
is() { [ "$(rows "$1")" = "$2" ]; }
ask() { curl --silent --show-error --cacert "$dir/ca.pem" --max-time 20 "$@"; }
status() { ask --output /dev/null --write-out '%{http_code}' "$@"; }
takes() { [ "$(status "$1/ingest" -H "Authorization: Bearer $token" -d '{"correlationId":"ready","integration":"proxied","eventType":"check"}')" = 200 ]; }
for proxy in "$nginx_port" "$haproxy_port"; do
    url=https://localhost:$proxy
    await ask "$url/"
    await takes "$url"
    [ "$(status "$url/ingest" -d '{}')" = 401 ] || fail "$url asks for no token"
    for path in /query /metrics /health /traces/c2b1f7a40d3e4f5896a7b8c9d0e1f2a3; do
        [ "$(status "$url$path")" = 404 ] || fail "$url$path can be reached from outside"
    done
    # Larger than proxies let through by themselves (1 MiB), and than their buffers.
    "$python" -c '
import json, secrets
print(json.dumps({"correlationId": "large", "integration": "proxied", "eventType": "check", "metadata": {"text": secrets.token_hex(1 << 20)}}))
' >"$dir/large.json"
    [ "$(status "$url/ingest" -H "Authorization: Bearer $token" --data-binary "@$dir/large.json")" = 200 ] || fail "$url takes no body of 2 MiB"
    for protocol in http/protobuf grpc; do
        OTEL_EXPORTER_OTLP_ENDPOINT=$url OTEL_EXPORTER_OTLP_CERTIFICATE=$dir/ca.pem \
            OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20$token" "$root/target/sdk/python/run" "$protocol" 10 >"$dir/sdk.out" 2>"$dir/sdk.log" || fail "the SDK fails over $protocol at $url"
    done
done
await is "SELECT count(*) FILTER (WHERE event_type = 'span'), count(*) FILTER (WHERE event_type = 'log') \
    FROM telemetry_events WHERE integration = 'sdk-python'" '40|40'
echo 'ok      the Python SDK over HTTP and gRPC, through TLS at nginx and HAProxy'

loads=()
for proxy in nginx haproxy; do
    name=${proxy}_port
    "$python" "$root/tests/proxies/load.py" "https://localhost:${!name}" "$dir/ca.pem" "$token" "$dir/enough" "$dir/$proxy.spans" \
        >"$dir/$proxy.result" 2>"$dir/$proxy-load.log" &
    loads+=($!)
    started+=($!)
done
# Spans come in both ways, at an instance that counts from its start.
busy() {
    local way page
    page=$(curl --silent --fail "http://127.0.0.1:${port[$1]}/metrics") || return 1
    for way in otlp_http otlp_grpc; do
        grep -q "^ruvvector_receive_events_total{source=\"$way\",signal=\"span\",outcome=\"accepted\"} [1-9]" <<<"$page" || return 1
    done
}
for each in 0 1; do
    await all_up
    await busy 0
    await busy 1
    kill -TERM "${instance[$each]}"
    wait "${instance[$each]}" || fail "instance $each ended with an error"
    start "$each"
done
await busy 1
touch "$dir/enough"
for each in "${loads[@]}"; do wait "$each" || fail 'a load ended with an error'; done

for proxy in nginx haproxy; do printf '%-7s %s\n' "$proxy" "$(cat "$dir/$proxy.result")"; done
"$python" -c '
import json, sys
nginx, haproxy = (json.load(open(path)) for path in sys.argv[1:])
assert not nginx["given_up"] and not haproxy["given_up"], "spans were not taken in 50 tries"
assert not nginx["failures"] and not haproxy["failures"], "a stop was seen"
' "$dir/nginx.result" "$dir/haproxy.result" || fail 'see the line above'
cat "$dir/nginx.spans" "$dir/haproxy.spans" | cut -d' ' -f2 | sort >"$dir/acknowledged"
acknowledged=$(wc -l <"$dir/acknowledged")
await is "SELECT count(*) >= $acknowledged FROM telemetry_events WHERE name = 'through'" t
rows "SELECT span_id FROM telemetry_events WHERE name = 'through'" | sort >"$dir/stored"
missing=$(comm -23 "$dir/acknowledged" <(uniq "$dir/stored") | wc -l)
[ "$missing" = 0 ] || fail "$missing spans were acknowledged and are not stored"
printf 'ok      %s spans acknowledged while one instance after the other was stopped; none missing, %s there twice\n' \
    "$acknowledged" "$(uniq -d "$dir/stored" | wc -l)"
