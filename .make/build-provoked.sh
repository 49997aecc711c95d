#!/usr/bin/env bash
# build-provoked.sh: the native module with faults that a request can ask for, without optimisation, for tests of the
# boundary: target/fixtures/native/libmeshtrace.so.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

step "fixture libmeshtrace.so, with faults to provoke (seconds; the first time a minute)"
cargo build --quiet --locked --package meshtrace-native --features provoke
linked=${CARGO_TARGET_DIR:-target}/debug/libmeshtrace.so
folder=target/fixtures/native
mkdir -p "$folder"
if ! cmp -s "$linked" "$folder/libmeshtrace.so"; then
    # Another file under the name: one that an Envoy has loaded must not change.
    cp "$linked" "$folder/libmeshtrace.so.new"
    mv "$folder/libmeshtrace.so.new" "$folder/libmeshtrace.so"
fi
