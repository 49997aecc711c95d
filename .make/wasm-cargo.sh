#!/usr/bin/env bash
# wasm-cargo.sh <cargo arguments>: cargo with the toolchain of wasm-target.sh and a target folder of its own,
# so that two versions of rustc do not rebuild each other's work. With WASM_STD=small, that of wasm-std.sh.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

selector=$root/.make/wasm-target.sh
if [[ ${WASM_STD:-} == small ]]; then selector=$root/.make/wasm-std.sh; fi
selection=$("$selector")
eval "$selection"
# SHA-256 with its rounds unrolled is the largest function of all, for a transformation that few use.
smaller='--cfg=sha2_backend_soft="compact"'
# A module has the paths of its sources in it: those of this machine would make it another module elsewhere.
export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="${CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS:-} $smaller \
--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$root=/meshtrace --remap-path-prefix=$cache=/cache"
export CARGO_TARGET_DIR=$root/target/wasm
exec "$WASM_CARGO" "$@"
