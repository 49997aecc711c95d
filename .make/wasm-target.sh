#!/usr/bin/env bash
# wasm-target.sh [debian | debian-ready]
# Finds or makes a toolchain for wasm32-wasip1 and wasm32-unknown-unknown and prints the shell lines that select it
# (WASM_CARGO, and what cargo needs beside it). First that works:
#   (a) the active rustc has the targets   (b) rustup adds them   (c) Debian's packages, std built once   (d) an error
# With `debian`, (c) or nothing; with `debian-ready`, (c) where it is there already, or nothing.
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
    local sysroot
    sysroot=$(debian_sysroot) || die "Debian's rustc does not run: $debian_bin/rustc"
    step "Rust's standard library for Wasm from Debian's source (once, about a minute)"
    # `test` is for wasm-bindgen-test.
    env -u RUSTUP_TOOLCHAIN CARGO="$debian_bin/cargo" RUSTC="$debian_bin/rustc" \
        "$root/.make/build-std.sh" "$sysroot" std,panic_abort,test "${targets[@]}"
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

by_debian() {
    command -v apt-get >/dev/null && "$root/.make/apt.sh" "${packages[@]}" && build_debian_sysroot && print_debian
}

if [[ ${1:-} == debian* ]]; then
    if debian_ready; then print_debian; else [[ $1 == debian ]] && by_debian; fi
elif active_has_targets; then
    print_active
elif debian_ready; then
    # Prepared by an earlier run, which has asked rustup already.
    print_debian
elif rustup_adds_targets; then
    print_active
elif ! by_debian; then
    die "no Rust target for Wasm: run 'rustup target add ${targets[*]}', or on Debian 'sudo apt-get install ${packages[*]}'"
fi
