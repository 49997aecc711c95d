#!/usr/bin/env bash
# envoy-gateway.sh: istio-manifests/envoy-gateway and what `meshtrace init` writes, in an Envoy as Envoy Gateway configures it.
# It takes ten minutes to compile, so its stored answers are run. ENVOY_GATEWAY=1 compiles and runs it, and compares;
# UPDATE_ENVOY_GATEWAY=1 with that writes the answers.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

cargo build --quiet --locked --package meshtrace-cli
programs=$root/${CARGO_TARGET_DIR:-target}/debug
[[ ${CARGO_TARGET_DIR:-} == /* ]] && programs=$CARGO_TARGET_DIR/debug
python=$(.make/python-env.sh .make/mesh/requirements.txt)
# Of the line that Envoy Gateway 1.9 has.
envoy=$(.make/envoy.sh 1.39.3)
if [[ ${ENVOY_GATEWAY:-} == 1 ]]; then
    # Its ports are fixed, and it listens on every address: so it has a network of its own.
    unshare --net --mount --map-root-user true || die "no network of its own for Envoy Gateway (unshare)"
    cargo build --quiet --locked --package meshtrace-images
    "$programs/meshtrace-images" build
    program=$(.make/envoy-gateway.sh)
    unshare --net --mount --map-root-user "$python" -B .make/mesh/envoy_gateway.py \
        "$programs/meshtrace" "$envoy" "$program" "$(.make/docker-registry.sh)" "$programs/meshtrace-images"
fi
"$python" -B .make/mesh/envoy_gateway.py "$programs/meshtrace" "$envoy"
