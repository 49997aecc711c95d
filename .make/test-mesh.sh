#!/usr/bin/env bash
# test-mesh.sh: the tests with real parts that are built with Go, one script a part in .make/mesh/. Without Go it says so
# and leaves them out; with STRICT=1 that is a failure.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

if ! command -v go >/dev/null; then
    missing="no Go on PATH (1.26 or newer): nothing of make test-mesh was run"
    if [[ ${STRICT:-} == 1 ]]; then die "$missing"; fi
    step "$missing"
    exit 0
fi
# Go's own caches keep what is built; two compilers at a time leave room for others.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-p=2"

failed=()
for part in .make/mesh/*.sh; do
    name=$(basename "$part" .sh)
    step "mesh: $name"
    "$part" || failed+=("$name")
done
if [[ ${#failed[@]} -gt 0 ]]; then die "failed: ${failed[*]}"; fi
step "mesh: all parts passed"
