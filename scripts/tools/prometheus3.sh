#!/usr/bin/env bash
# Builds Prometheus 3 and its promtool, in their pinned version, from their Go module. For the checks of alerts and dashboards.
#
#   directory=$(scripts/tools/prometheus3.sh) && "$directory/promtool" check rules alerts/*.rules.yml
#
# Prints the directory of both programs, target/prometheus3/VERSION; existing ones stay. They have no web pages, and discover
# targets only in files and static lists, which keeps the build short. Needs what scripts/tools/find-go.sh needs.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"

version=$(version prometheus)
# The Go module of version 3.MM.P has the version 0.3MM.P.
module_version=0.3${version#3.}
directory=$PWD/target/prometheus3/$module_version
module=github.com/prometheus/prometheus/cmd
if [ ! -x "$directory/prometheus" ] || [ ! -x "$directory/promtool" ]; then
    printf 'building Prometheus %s …\n' "$version" >&2
    rm -rf target/prometheus3
    mkdir -p target/prometheus3
    go_install "$directory.part" -trimpath -tags remove_all_sd \
        -ldflags="-s -w -X github.com/prometheus/common/version.Version=$version" \
        "$module/prometheus@v$module_version" "$module/promtool@v$module_version"
    mv "$directory.part" "$directory"
fi
printf '%s\n' "$directory"
