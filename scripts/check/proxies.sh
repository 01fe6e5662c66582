#!/usr/bin/env bash
# Checks the configurations of docs/deployment.md for nginx and HAProxy with TLS before two instances, and for PgBouncer between
# these and PostgreSQL. For authors of that document, and for those who change how connections close.
#
#   scripts/check/proxies.sh
#
# Each program runs with the document's own configuration. OpenTelemetry's Python SDK sends over HTTP and gRPC through TLS. Then
# spans pass through both proxies while one instance after the other is stopped and started: every acknowledged span has to be in
# the table once, and no client may see a failure. RUVVECTOR_BINARY names another binary than target/debug/ruvvector-service.
# Needs nginx, haproxy, pgbouncer, openssl, curl, psql, PostgreSQL's programs, and scripts/tools/sdk/python.sh.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"
beside_postgres "$@"

find_service
document=$root/docs/deployment.md
python=$root/target/sdk/python/venv/bin/python
[ -x "$python" ] || fail "$python is missing; install it with scripts/tools/sdk/python.sh"
needs nginx haproxy pgbouncer openssl curl psql
# Python's requests would use these instead of the test's certificates.
unset REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
temporary_directory proxies

# block FILE: prints the document's block with the directive file=FILE.
block() {
    awk -v mark="<!-- docs: file=$1 -->" '
        $0 == mark { marked = 1; next }
        marked == 1 && /^```/ { marked = 2; next }
        marked == 2 && /^```/ { exit }
        marked == 2 { print; lines++ }
        END { exit lines == 0 }' "$document" || fail "docs/deployment.md has no block with the directive file=$1"
}
# replace FILE TEXT REPLACEMENT…: replaces names and ports of the document by those of the test. A missing text is an error, as
# the check would otherwise not notice a change of the document.
replace() {
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
# The HTTP ports of both instances, then their gRPC ports.
port=("$(free_port)" "$(free_port)" "$(free_port)" "$(free_port)")
nginx_port=$(free_port)
haproxy_port=$(free_port)
bouncer_port=$(free_port)

# Certificates of a private authority, as internal networks have them.
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=Test CA' -keyout "$dir/ca.key" -out "$dir/ca.pem" 2>/dev/null
openssl req -newkey rsa:2048 -nodes -subj '/CN=localhost' -keyout "$dir/privkey.pem" -out "$dir/request.pem" 2>/dev/null
openssl x509 -req -in "$dir/request.pem" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -days 2 \
    -extfile <(echo 'subjectAltName=DNS:localhost,IP:127.0.0.1') -out "$dir/fullchain.pem" 2>/dev/null
cat "$dir/fullchain.pem" "$dir/privkey.pem" >"$dir/haproxy.pem"

# PostgreSQL loads a certificate while it runs. No proxy runs as root, which PgBouncer refuses.
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
# The service accepts the certificate of this authority, and refuses it if another authority is configured.
url="postgres://ruvvector:change-me@$server/telemetry?sslmode=verify-full&sslrootcert=$dir"
migrate() { env RUVVECTOR_CONNECT_TIMEOUT=5s DATABASE_URL="$url/$1" "$binary" migrate >>"$dir/migrate.log" 2>&1; }
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=Another CA' -keyout "$dir/other.key" -out "$dir/other.pem" 2>/dev/null
await migrate ca.pem
! migrate other.pem || fail 'verify-full accepts a certificate of an unknown authority'
grep -q 'UnknownIssuer.*sslrootcert' "$dir/migrate.log" || fail 'the log does not explain the error of the certificate'
! grep -q 'UnknownIssuer.*the database runs' "$dir/migrate.log" || fail 'the log calls an unknown certificate an unreachable server'
echo 'ok      PostgreSQL over TLS: role and rights as in the document, verify-full'

mkdir "$dir/pgbouncer"
block pgbouncer.ini >"$dir/pgbouncer/pgbouncer.ini"
replace "$dir/pgbouncer/pgbouncer.ini" 'host=db.example port=5432' "host=${server%:*} port=${server#*:}" \
    'listen_port = 6432' "listen_port = $bouncer_port" 'listen_addr = 10.0.0.5' 'listen_addr = 127.0.0.1' \
    /etc/pgbouncer "$dir/pgbouncer"
cp "$dir/ca.pem" "$dir/pgbouncer/"
echo '"ruvvector" "change-me"' >"$dir/pgbouncer/userlist.txt"
[ ${#as[@]} = 0 ] || chown -R postgres "$dir/pgbouncer"
(cd / && exec "${as[@]}" pgbouncer --quiet "$dir/pgbouncer/pgbouncer.ini") >"$dir/pgbouncer.log" 2>&1 &
database="postgres://ruvvector:change-me@127.0.0.1:$bouncer_port/telemetry"
await psql "$database" -c 'SELECT 1'
! DATABASE_URL="$database?options=-c%20search_path%3Dpublic" "$binary" migrate >"$dir/options.log" 2>&1 ||
    fail 'PgBouncer accepts options, although docs/deployment.md says that it refuses them'
grep -q 'startup parameter.*ignore_startup_parameters' "$dir/options.log" || fail 'the log does not name the parameter that PgBouncer refuses'

token=$(openssl rand -hex 32)
instance=()
start_instance() {
    start_service "instance-$1" RUVVECTOR_STORE=postgres DATABASE_URL="$database" RUVVECTOR_AUTH_TOKENS="$token" \
        RUVVECTOR_SERVICE_PORT="${port[$1]}" RUVVECTOR_OTLP_GRPC_PORT="${port[$1 + 2]}" RUVVECTOR_OTLP_HTTP_PORT=off \
        RUVVECTOR_JOURNAL_MAX_BYTES=256MiB RUVVECTOR_JOURNAL_FREE_FLOOR_BYTES=16MiB RUVVECTOR_SHUTDOWN_DELAY=3s \
        RUVVECTOR_MAINTENANCE_INTERVAL=1s
    instance[$1]=$service
}
start_instance 0
start_instance 1

block telemetry.nginx.conf >"$dir/telemetry.nginx.conf"
replace "$dir/telemetry.nginx.conf" 10.0.0.11:3100 "127.0.0.1:${port[0]}" 10.0.0.12:3100 "127.0.0.1:${port[1]}" \
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

block telemetry.haproxy.cfg >"$dir/telemetry.haproxy.cfg"
replace "$dir/telemetry.haproxy.cfg" 10.0.0.11:3100 "127.0.0.1:${port[0]}" 10.0.0.12:3100 "127.0.0.1:${port[1]}" \
    10.0.0.11:4317 "127.0.0.1:${port[2]}" 10.0.0.12:4317 "127.0.0.1:${port[3]}" \
    'bind :443 ' "bind 127.0.0.1:$haproxy_port " /etc/ssl/telemetry "$dir"
# Both instances of the test have one address, so that each server needs the port of its health check.
sed -i -e "/127\.0\.0\.1:\(${port[0]}\|${port[2]}\)/s/\$/ port ${port[0]}/" \
    -e "/127\.0\.0\.1:\(${port[1]}\|${port[3]}\)/s/\$/ port ${port[1]}/" "$dir/telemetry.haproxy.cfg"
printf 'global\n    maxconn 1000\n    stats socket %s/haproxy.socket\n' "$dir" >"$dir/global.cfg"
haproxy -c -f "$dir/global.cfg" -f "$dir/telemetry.haproxy.cfg" >"$dir/haproxy.log" 2>&1 ||
    fail 'HAProxy refuses the configuration of docs/deployment.md'
! grep -qE 'WARNING|ALERT' "$dir/haproxy.log" || fail 'HAProxy warns of the configuration of docs/deployment.md'
"${as[@]}" haproxy -q -db -f "$dir/global.cfg" -f "$dir/telemetry.haproxy.cfg" >"$dir/haproxy.log" 2>&1 &

# all_up: succeeds if HAProxy considers all four servers up.
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
equals() { [ "$(rows "$1")" = "$2" ]; }
ask() { curl --silent --show-error --cacert "$dir/ca.pem" --max-time 20 "$@"; }
status() { ask --output /dev/null --write-out '%{http_code}' "$@"; }
accepts() { [ "$(status "$1/ingest" -H "Authorization: Bearer $token" -d '{"correlationId":"ready","integration":"proxied","eventType":"check"}')" = 200 ]; }
for proxy in "$nginx_port" "$haproxy_port"; do
    url=https://localhost:$proxy
    await ask "$url/"
    await accepts "$url"
    [ "$(status "$url/ingest" -d '{}')" = 401 ] || fail "$url requires no token"
    for path in /query /metrics /health /traces/c2b1f7a40d3e4f5896a7b8c9d0e1f2a3; do
        [ "$(status "$url$path")" = 404 ] || fail "$url$path is reachable from outside"
    done
    # Larger than the proxies' default limit (1 MiB) and their buffers.
    "$python" -c '
import json, secrets
print(json.dumps({"correlationId": "large", "integration": "proxied", "eventType": "check", "metadata": {"text": secrets.token_hex(1 << 20)}}))
' >"$dir/large.json"
    [ "$(status "$url/ingest" -H "Authorization: Bearer $token" --data-binary "@$dir/large.json")" = 200 ] || fail "$url refuses a body of 2 MiB"
    for protocol in http/protobuf grpc; do
        OTEL_EXPORTER_OTLP_ENDPOINT=$url OTEL_EXPORTER_OTLP_CERTIFICATE=$dir/ca.pem \
            OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20$token" "$root/target/sdk/python/run" "$protocol" 10 >"$dir/sdk.out" 2>"$dir/sdk.log" || fail "the SDK fails over $protocol at $url"
    done
done
await equals "SELECT count(*) FILTER (WHERE event_type = 'span'), count(*) FILTER (WHERE event_type = 'log') \
    FROM telemetry_events WHERE integration = 'sdk-python'" '40|40'
echo 'ok      the Python SDK over HTTP and gRPC, through TLS at nginx and HAProxy'

loads=()
for proxy in nginx haproxy; do
    name=${proxy}_port
    "$python" -m tests.proxies.load "https://localhost:${!name}" "$dir/ca.pem" "$token" "$dir/enough" "$dir/$proxy.spans" \
        >"$dir/$proxy.result" 2>"$dir/$proxy-load.log" &
    loads+=($!)
done
# busy INSTANCE: succeeds once the instance has accepted spans over both protocols since its start.
busy() {
    local protocol page
    page=$(curl --silent --fail "http://127.0.0.1:${port[$1]}/metrics") || return 1
    for protocol in otlp_http otlp_grpc; do
        grep -q "^ruvvector_receive_events_total{source=\"$protocol\",signal=\"span\",outcome=\"accepted\"} [1-9]" <<<"$page" || return 1
    done
}
for each in 0 1; do
    await all_up
    await busy 0
    await busy 1
    kill -TERM "${instance[$each]}"
    wait "${instance[$each]}" || fail "instance $each ended with an error"
    start_instance "$each"
done
await busy 1
touch "$dir/enough"
for each in "${loads[@]}"; do wait "$each" || fail 'a load ended with an error'; done

for proxy in nginx haproxy; do printf '%-7s %s\n' "$proxy" "$(cat "$dir/$proxy.result")"; done
"$python" -c '
import json, sys
nginx, haproxy = (json.load(open(path)) for path in sys.argv[1:])
assert not nginx["abandoned"] and not haproxy["abandoned"], "spans were not accepted in 50 attempts"
assert not nginx["failures"] and not haproxy["failures"], "clients saw a stop"
' "$dir/nginx.result" "$dir/haproxy.result" || fail 'see the line above'
cat "$dir/nginx.spans" "$dir/haproxy.spans" | cut -d' ' -f2 | sort >"$dir/acknowledged"
acknowledged=$(wc -l <"$dir/acknowledged")
await equals "SELECT count(*) >= $acknowledged FROM telemetry_events WHERE name = 'through'" t
rows "SELECT span_id FROM telemetry_events WHERE name = 'through'" | sort >"$dir/stored"
missing=$(comm -23 "$dir/acknowledged" <(uniq "$dir/stored") | wc -l)
[ "$missing" = 0 ] || fail "$missing acknowledged spans are not stored"
printf 'ok      %s spans acknowledged while one instance after the other was stopped; none missing, %s stored twice\n' \
    "$acknowledged" "$(uniq -d "$dir/stored" | wc -l)"
