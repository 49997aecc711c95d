#!/usr/bin/env bash
# images.sh: packs the released filters, dist/*.wasm, as OCI image layouts in dist/oci/.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

step "images: dist/oci/ (seconds; the first time a minute)"
exec cargo run --quiet --locked --package meshtrace-images -- build
