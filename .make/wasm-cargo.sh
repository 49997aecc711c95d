#!/usr/bin/env bash
# wasm-cargo.sh <cargo arguments>: cargo with the toolchain of wasm-target.sh and a target folder of its own,
# so that two versions of rustc do not rebuild each other's work.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

selection=$("$root/.make/wasm-target.sh")
eval "$selection"
export CARGO_TARGET_DIR=$root/target/wasm
exec "$WASM_CARGO" "$@"
