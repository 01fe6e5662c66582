#!/usr/bin/env bash
# Writes the root file system of the container's image: the binary, its libraries, names and certificates, and no other file.
#
#   scripts/operate/container-root.sh target/release/ruvvector-service DIRECTORY
#
# The Dockerfile runs it during the build, scripts/check/chart.sh in a test. It stands alone, as the build has no other script.
# Needs ldd and the package `ca-certificates`.
set -euo pipefail

binary=${1:?the first argument is the binary} root=${2:?the second argument is the directory of the image}
certificates=/etc/ssl/certs/ca-certificates.crt

mkdir -p "$root/tmp" "$root/etc/ssl/certs" "$root/usr/bin"
chmod 1777 "$root/tmp"
# The service verifies PostgreSQL over TLS by these.
cp -L "$certificates" "$root/etc/ssl/certs/"
printf 'ruvvector:x:65532:65532::/data:/sbin/nologin\n' >"$root/etc/passwd"
printf 'ruvvector:x:65532:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
install -m 755 "$binary" "$root/usr/bin/ruvvector-service"
# Copies each library, and the loader itself, to the path where the loader looks for it.
ldd "$binary" | grep -oE '/[^ ]+' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
