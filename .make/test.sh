#!/usr/bin/env bash
# test.sh: the native tests, against every supported Envoy.
# The tests find the Envoys in ENVOY_BIN (the one to use by default) and MESHTRACE_ENVOYS (all, with colons between).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

default=$(.make/envoy.sh)
if [[ -n ${ENVOY_BIN:-} ]]; then
    envoys=$ENVOY_BIN
else
    envoys=
    for version in 1.36.4 1.37.0 1.39.3 1.40.0; do
        envoy=$(.make/envoy.sh "$version")
        envoys+=${envoys:+:}$envoy
    done
fi
export ENVOY_BIN=$default MESHTRACE_ENVOYS=$envoys

step "native tests"
cargo test --workspace --locked
