#!/usr/bin/env bash
# Lays out the root file system of the container's image: the binary, the libraries it is linked with, and nothing else.
#
#   scripts/operate/container-root.sh target/release/ruvvector-service DIR
#
# The Dockerfile runs it while building; scripts/check/chart.sh runs it by hand, and the binary inside.
set -euo pipefail

fail() { printf 'container-root.sh: %s\n' "$1" >&2; exit 1; }
[ $# -eq 2 ] || fail 'wants a binary and a directory'
binary=$1 root=$2 certificates=/etc/ssl/certs/ca-certificates.crt
[ -x "$binary" ] || fail "$binary is not there"
[ -e "$certificates" ] || fail "$certificates is missing: install the package 'ca-certificates'"

mkdir -p "$root/tmp" "$root/etc/ssl/certs" "$root/usr/bin"
chmod 1777 "$root/tmp"
# PostgreSQL over TLS is checked against these.
cp -L "$certificates" "$root/etc/ssl/certs/"
printf 'ruvvector:x:65532:65532::/data:/sbin/nologin\n' >"$root/etc/passwd"
printf 'ruvvector:x:65532:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
install -m 755 "$binary" "$root/usr/bin/ruvvector-service"
# Each library at the path where the loader looks for it, and the loader itself.
ldd "$binary" | grep -oE '/[^ ]+' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
