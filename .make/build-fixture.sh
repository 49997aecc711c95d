#!/usr/bin/env bash
# build-fixture.sh <folder>…: compiles stand-alone cdylib crates for wasm32-wasip1 as the compiler leaves them, to
# target/fixtures/<name>.wasm (the crate's name, with underscores).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

mkdir -p "$root/target/fixtures"
for folder in "$@"; do
    manifest=$(realpath "$folder")/Cargo.toml
    name=$(sed -n 's/^name = "\(.*\)"$/\1/p' "$manifest" | head -n 1)
    name=${name//-/_}
    step "fixture $name (seconds)"
    "$root/.make/wasm-cargo.sh" build --release --locked --target wasm32-wasip1 --manifest-path "$manifest"
    linked=$root/target/wasm/wasm32-wasip1/release/$name.wasm
    # An unchanged module keeps its time.
    cmp -s "$linked" "$root/target/fixtures/$name.wasm" || cp "$linked" "$root/target/fixtures/$name.wasm"
done
