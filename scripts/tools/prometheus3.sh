#!/usr/bin/env bash
# Builds Prometheus 3 and its promtool, of one pinned version, from its Go modules.
#
#   home=$(scripts/tools/prometheus3.sh) && "$home/promtool" check rules alerts/*.rules.yml
#
# Prints the directory of both, target/prometheus3/VERSION; what is already built stays. Without the web pages, and without
# service discovery but for files and static targets, which is what makes it short. Builds with the Go of scripts/tools/find-go.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."

# Prometheus 3.16.0: as a Go module its versions are v0.3MM.P.
version=0.316.0
dir=$PWD/target/prometheus3/$version
module=github.com/prometheus/prometheus/cmd
if [ ! -x "$dir/prometheus" ] || [ ! -x "$dir/promtool" ]; then
    go=$(scripts/tools/find-go.sh)
    rm -rf target/prometheus3
    mkdir -p "$dir.part"
    printf 'building Prometheus %s …\n' "$version" >&2
    GOTOOLCHAIN=local GOBIN="$dir.part" "$go" install -trimpath -tags remove_all_sd \
        -ldflags="-s -w -X github.com/prometheus/common/version.Version=3.${version#0.3}" \
        "$module/prometheus@v$version" "$module/promtool@v$version" 2>"$dir.log" ||
        { tail -n 30 "$dir.log" >&2; printf 'prometheus3.sh: did not build; all of it: %s\n' "$dir.log" >&2; exit 1; }
    mv "$dir.part" "$dir"
fi
printf '%s\n' "$dir"
