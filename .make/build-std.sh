#!/usr/bin/env bash
# build-std.sh <folder> <crates> <target>…: compiles Rust's standard library from the compiler's own source, and leaves a
# sysroot in the folder. CARGO and RUSTC name the compiler. STD_PROFILE has lines for cargo's release profile,
# STD_FEATURES std's features, STD_RUSTFLAGS flags for wasm32-wasip1.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
sysroot=$1 crates=$2
shift 2

mkdir -p "$cache"
work=$(mktemp -d "$cache/std.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
printf '[package]\nname = "empty"\nedition = "2024"\n[profile.release]\npanic = "abort"\n%b\n[workspace]\n' \
    "${STD_PROFILE:-}" >"$work/Cargo.toml"
: >"$work/src/lib.rs"
options=("-Zbuild-std=$crates")
if [[ -n ${STD_FEATURES:-} ]]; then options+=("-Zbuild-std-features=$STD_FEATURES"); fi
for target in "$@"; do options+=(--target "$target"); done
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS
# Without the bitcode a filter's link-time optimisation refuses these libraries.
RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$work/target \
    CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="-Cembed-bitcode=yes ${STD_RUSTFLAGS:-}" \
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS=-Cembed-bitcode=yes \
    "$CARGO" build --quiet --release --manifest-path "$work/Cargo.toml" "${options[@]}" >&2
for target in "$@"; do
    libraries=$work/sysroot/lib/rustlib/$target/lib
    mkdir -p "$libraries"
    cp "$work/target/$target/release/deps/"*.rlib "$libraries/"
    rm -f "$libraries/"libempty-*.rlib
    compgen -G "$libraries/libstd-*.rlib" >/dev/null || die "the build of Rust's standard library left no libstd behind"
done
# Another make may have been faster; its result is as good.
mv -T "$work/sysroot" "$sysroot" 2>/dev/null || [[ -d $sysroot ]] || die "cannot write $sysroot"
