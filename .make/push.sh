#!/usr/bin/env bash
# push.sh <host:port/namespace> [tag]: pushes what is in dist/oci/, with the credentials of the Docker configuration.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

registry=${1:-} tag=${2:-}
[[ -n $registry ]] || die "where to? make push REGISTRY=host:port/namespace [TAG=1.0.0]"
exec cargo run --quiet --locked --package meshtrace-images -- push "$registry" ${tag:+"$tag"}
