#!/usr/bin/env bash
# Builds helm, in its pinned version, from its Go module. For scripts/check/chart.sh.
#
#   helm=$(scripts/tools/helm.sh)
#
# Prints the path of the program, target/helm/helm-VERSION; an existing one stays. Needs what scripts/tools/find-go.sh needs.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"

version=$(version helm)
program=$PWD/target/helm/helm-$version
if [ ! -x "$program" ]; then
    printf 'building helm %s …\n' "$version" >&2
    mkdir -p target/helm
    go_install "$PWD/target/helm" "helm.sh/helm/v3/cmd/helm@v$version"
    mv target/helm/helm "$program"
fi
printf '%s\n' "$program"
