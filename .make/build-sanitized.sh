#!/usr/bin/env bash
# build-sanitized.sh: the native module with AddressSanitizer, and with faults that a request can ask for:
# target/sanitized/libmeshtrace.so.
#
# Envoy is not built with the sanitizer, and it has an allocator of its own (tcmalloc), whose `malloc` comes before that
# of any preloaded library: with the sanitizer's library preloaded, Envoy ends before `main`. So the module contains the
# sanitizer: what the module allocates is checked, and what Envoy allocates is not.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

target=$(rustc -vV | sed -n 's/^host: //p')
folder=$root/target/sanitized
mkdir -p "$folder"
runtime=$(echo "$(rustc --print target-libdir)"/librustc-*_rt.asan.a)
[[ -f $runtime ]] || die "this Rust has no AddressSanitizer: it comes with rustup's toolchains for $target"
# No library may have an array of functions that run before `main`'s libraries are there.
cp "$runtime" "$folder/runtime.a"
mapfile -t early < <(ar t "$folder/runtime.a" | grep preinit)
ar d "$folder/runtime.a" "${early[@]}"

step "libmeshtrace.so with AddressSanitizer (the first time two minutes)"
# The sanitizer is a flag that is not stable yet.
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Cforce-frame-pointers=yes" \
    quietly cargo rustc --locked --package meshtrace-native --features provoke --lib --target "$target" \
    --target-dir "$folder/cargo" -- \
    -Clink-arg=-Wl,--whole-archive -Clink-arg="$folder/runtime.a" -Clink-arg=-Wl,--no-whole-archive \
    -Clink-arg=-lpthread -Clink-arg=-lrt -Clink-arg=-ldl -Clink-arg=-lm
cp "$folder/cargo/$target/debug/libmeshtrace.so" "$folder/libmeshtrace.so.new"
mv "$folder/libmeshtrace.so.new" "$folder/libmeshtrace.so"
