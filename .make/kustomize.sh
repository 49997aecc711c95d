#!/usr/bin/env bash
# kustomize.sh: makes sure that there is a kustomize in the cache, and prints the program's path.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

version=v5.7.1
folder=$cache/tools/kustomize-$version
if [[ ! -x $folder/kustomize ]]; then
    step "kustomize $version (once, about a minute)"
    (cd / && GOBIN=$folder nice go install "sigs.k8s.io/kustomize/kustomize/v5@$version") >&2 ||
        die "go cannot install kustomize"
fi
printf '%s\n' "$folder/kustomize"
