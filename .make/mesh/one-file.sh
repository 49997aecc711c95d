#!/usr/bin/env bash
# one-file.sh: examples/one-file as kustomize renders it: Istio's CRDs know every field of every overlay, and `meshtrace check`
# finds nothing; the whole set-up in real Envoys: which requests are reported, and with what. UPDATE_EXAMPLES=1 writes what
# `meshtrace render` says of the filters.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

python=$(.make/python-env.sh .make/mesh/requirements.txt)
kustomize=$(.make/kustomize.sh)
[[ -x dist/meshtrace ]] || die "no dist/meshtrace: run make build"
# Its CRDs alone.
version=$(sed -n 's/^\tistio.io\/api \(v[^ ]*\)$/\1/p' istio-manifests/verify/go-1.31.mod)
api=$(cd / && go mod download -json "istio.io/api@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
[[ -n $api ]] || die "go cannot fetch the CRDs of Istio"
"$python" -B .make/mesh/one-file-filters.py "$kustomize" "$api/kubernetes/customresourcedefinitions.gen.yaml"
"$python" -B .make/mesh/one-file.py "$kustomize" "$(.make/envoy.sh)"
