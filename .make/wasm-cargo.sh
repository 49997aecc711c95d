#!/usr/bin/env bash
# wasm-cargo.sh <cargo arguments>: cargo with the toolchain of wasm-target.sh and a target folder of its own,
# so that two versions of rustc do not rebuild each other's work.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

selection=$("$root/.make/wasm-target.sh")
eval "$selection"
# A module has the paths of its sources in it: those of this machine would make it another module elsewhere.
export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="${CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS:-} \
--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$root=/meshtrace --remap-path-prefix=$cache=/cache"
export CARGO_TARGET_DIR=$root/target/wasm
exec "$WASM_CARGO" "$@"
