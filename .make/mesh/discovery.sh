#!/usr/bin/env bash
# discovery.sh: the manifests as Istio's own pilot-discovery serves them over ADS to real Envoys, which carry requests.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

# Of the same version as istio.sh's, so that what one of them has compiled the other need not.
verify=istio-manifests/verify
version=$(sed -n 's/^\tistio\.io\/istio \(v[^ ]*\)$/\1/p' "$verify/go-1.31.mod")
[[ -n $version ]] || die "$verify/go-1.31.mod names no version of istio.io/istio"
program=$cache/istio/$version/pilot-discovery
if [[ ! -x $program ]]; then
    step "Istio's pilot-discovery $version (built once; about ten minutes where istio.sh has not compiled yet)"
    build=$(mktemp -d)
    trap 'rm -rf "$build"' EXIT
    cp "$verify/go-1.31.mod" "$build/go.mod"
    cp "$verify/go-1.31.sum" "$build/go.sum"
    mkdir -p "$(dirname "$program")"
    # The program needs modules more than the generator does.
    (cd "$build" && quietly nice go build -mod=mod -ldflags='-s -w' -o "$program.new" istio.io/istio/pilot/cmd/pilot-discovery)
    mv "$program.new" "$program"
fi

command -v openssl >/dev/null || .make/apt.sh openssl
python=$(.make/python-env.sh .make/mesh/requirements.txt)
envoys=()
# DISCOVERY_ENVOYS: several versions; `make long` takes that of Istio 1.31 too.
for envoy in ${DISCOVERY_ENVOYS:-1.40.0}; do envoys+=("$(.make/envoy.sh "$envoy")"); done
"$python" -B .make/mesh/discovery.py "$program" "${envoys[@]}"
