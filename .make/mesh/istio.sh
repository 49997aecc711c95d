#!/usr/bin/env bash
# istio.sh: the manifests and the images before Istio's own code, of two versions: the CRDs' schemas, the validators, the
# generator of istiod, the agent's image puller. What it renders runs in real Envoys afterwards. Beside it kustomize, the
# CRDs of Envoy Gateway, and oras's library.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

registry=$(.make/docker-registry.sh)
for version in 1.36.4 1.37.0 1.39.3 1.40.0; do .make/envoy.sh "$version" >/dev/null; done
cargo build --quiet --locked --package meshtrace-images --package meshtrace-cli
programs=$root/${CARGO_TARGET_DIR:-target}/debug
[[ ${CARGO_TARGET_DIR:-} == /* ]] && programs=$CARGO_TARGET_DIR/debug

kustomize=$(.make/kustomize.sh)
# Only its CRDs.
gateway=$(cd / && go mod download -json github.com/envoyproxy/gateway@v1.9.1 | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
[[ -n $gateway ]] || die "go cannot fetch Envoy Gateway's module"
gateway=$gateway/charts/gateway-helm/charts/crds/crds/generated

rendered=$root/target/rendered-by-istio
rm -rf "$rendered"
# render <istiod> <proxies> <module file>: no module proxy that is known serves Istio 1.29, whose proxies 1.30 renders for.
render() {
    step "Istio $1, for proxies of $2 (the first time it is compiled, about ten minutes)"
    (
        cd istio-manifests/verify
        nice go test -modfile="$3" -count=1 . \
            -istiod "$1" -proxies "$2" -out "$rendered" -registry "$registry" -images "$programs/meshtrace-images" \
            -meshtrace "$programs/meshtrace" -kustomize "$kustomize" -gateway "$gateway" -checkout "$root"
    )
}
render 1.30 1.28.10,1.29.6,1.30.3 go.mod
render 1.31 1.31.0 go-1.31.mod

step "what Istio rendered, in Envoy 1.36, 1.37, 1.39 and 1.40 (two minutes)"
RENDERED_BY_ISTIO=$rendered cargo test --quiet --locked --package envoy-test-harness \
    --test manifests rendered_ -- --ignored

step "what Istio rendered of ext-authz and of examples/traffic, with Istio's own authoriser (a minute)"
python=$(.make/python-env.sh .make/mesh/requirements.txt)
first=$(.make/envoy.sh 1.36.4) last=$(.make/envoy.sh 1.40.0)
"$python" -B .make/mesh/authz.py "$(.make/extauthz.sh)" --rendered "$rendered/ext-authz" "$first" "$last"
"$python" -B .make/mesh/traffic.py --rendered "$rendered/traffic" "$first" "$last"

# Of discovery.sh, which comes before in make test-mesh.
served=$root/target/served-by-istiod
if [[ -d $served ]]; then
    "$python" -B .make/mesh/discovery_served.py "$served" "$rendered"
else
    step "discovery.sh has not run here: what istiod serves was not compared with what is rendered"
fi
