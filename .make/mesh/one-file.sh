#!/usr/bin/env bash
# one-file.sh: examples/one-file as kustomize renders it: `meshtrace check` finds nothing in any overlay; the whole set-up in real
# Envoys: which requests are reported, and with what. UPDATE_EXAMPLES=1 writes what `meshtrace render` says of the filters.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

python=$(.make/python-env.sh .make/mesh/requirements.txt)
kustomize=$(.make/kustomize.sh)
[[ -x dist/meshtrace ]] || die "no dist/meshtrace: run make build"
"$python" -B .make/mesh/one-file-filters.py "$kustomize"
"$python" -B .make/mesh/one-file.py "$kustomize" "$(.make/envoy.sh)"
