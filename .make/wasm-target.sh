#!/usr/bin/env bash
# Finds or makes a toolchain for wasm32-wasip1 and wasm32-unknown-unknown and prints the shell lines that select it
# (WASM_CARGO, and what cargo needs beside it). First that works:
#   (a) the active rustc has the targets   (b) rustup adds them   (c) Debian's packages, std built once   (d) an error
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

targets=(wasm32-wasip1 wasm32-unknown-unknown)
packages=(rustc-web cargo-web rust-web-src lld-19 wasi-libc)
# Where Debian's rustc and cargo are; elsewhere only in this script's own test.
debian_bin=${MESHTRACE_DEBIAN_BIN:-/usr/bin}

# has_targets <sysroot>
has_targets() {
    local target
    for target in "${targets[@]}"; do
        compgen -G "$1/lib/rustlib/$target/lib/libstd-*.rlib" >/dev/null || return 1
    done
}

active_has_targets() {
    local sysroot
    sysroot=$(rustc --print sysroot 2>/dev/null) && has_targets "$sysroot"
}

rustup_adds_targets() {
    command -v rustup >/dev/null || return 1
    step "rustup target add ${targets[*]} (seconds; given up after two minutes)"
    # An unreachable server makes rustup hang or fail: neither may stop the search here.
    if timeout 120 rustup target add "${targets[@]}" >&2 && active_has_targets; then return 0; fi
    step "rustup could not add them"
    return 1
}

# The name carries the compiler's version: an upgrade makes a new sysroot, and cargo sees a changed flag.
debian_sysroot() {
    local version
    version=$("$debian_bin/rustc" --version 2>/dev/null) || return 1
    version=${version#rustc }
    printf '%s/sysroot-%s\n' "$cache" "$(tr -cs 'A-Za-z0-9.\n' - <<<"${version%%)*}")"
}

debian_ready() {
    local sysroot
    sysroot=$(debian_sysroot) && has_targets "$sysroot"
}

build_debian_sysroot() {
    local sysroot work target flags=()
    sysroot=$(debian_sysroot) || die "Debian's rustc does not run: $debian_bin/rustc"
    step "Rust's standard library for Wasm from Debian's source (once, about a minute)"
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/std.XXXXXX")
    # shellcheck disable=SC2064  # $work is a local: expand it now
    trap "rm -rf '$work'" EXIT
    mkdir "$work/src"
    printf '[package]\nname = "empty"\nedition = "2024"\n[profile.release]\npanic = "abort"\n[workspace]\n' >"$work/Cargo.toml"
    : >"$work/src/lib.rs"
    for target in "${targets[@]}"; do flags+=(--target "$target"); done
    # Without the bitcode a filter's link-time optimisation refuses these libraries. `test` is for wasm-bindgen-test.
    (
        cd "$work"
        unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS RUSTUP_TOOLCHAIN
        RUSTC_BOOTSTRAP=1 RUSTC=$debian_bin/rustc CARGO_TARGET_DIR=$work/target \
            CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS=-Cembed-bitcode=yes \
            CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS=-Cembed-bitcode=yes \
            "$debian_bin/cargo" build --release -Zbuild-std=std,panic_abort,test "${flags[@]}" >&2
    )
    for target in "${targets[@]}"; do
        mkdir -p "$work/sysroot/lib/rustlib/$target/lib"
        cp "$work/target/$target/release/deps/"*.rlib "$work/sysroot/lib/rustlib/$target/lib/"
        rm -f "$work/sysroot/lib/rustlib/$target/lib/"libempty-*.rlib
    done
    has_targets "$work/sysroot" || die "the build of Rust's standard library left no libstd behind"
    # Another make may have been faster; its result is as good.
    mv -T "$work/sysroot" "$sysroot" 2>/dev/null || has_targets "$sysroot" || die "cannot write $sysroot"
}

print_active() {
    printf 'export WASM_CARGO=cargo\n'
}

print_debian() {
    local sysroot flags
    sysroot=$(debian_sysroot)
    flags="--sysroot $sysroot -L native=/usr/lib/wasm32-wasi"
    # A RUSTFLAGS of the user's would replace the flags of the target.
    printf 'unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS RUSTUP_TOOLCHAIN\n'
    printf 'export %s=%q\n' WASM_CARGO "$debian_bin/cargo" RUSTC "$debian_bin/rustc" \
        CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS "$flags" CARGO_TARGET_WASM32_WASIP1_LINKER wasm-ld-19 \
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS "$flags" CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER wasm-ld-19
}

if active_has_targets; then
    print_active
elif debian_ready; then
    # Prepared by an earlier run, which has asked rustup already.
    print_debian
elif rustup_adds_targets; then
    print_active
elif command -v apt-get >/dev/null && "$root/.make/apt.sh" "${packages[@]}"; then
    build_debian_sysroot
    print_debian
else
    die "no Rust target for Wasm: run 'rustup target add ${targets[*]}', or on Debian 'sudo apt-get install ${packages[*]}'"
fi
