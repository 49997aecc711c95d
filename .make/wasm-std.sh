#!/usr/bin/env bash
# Prints the shell lines that select the toolchain of wasm-target.sh for what is released: with a standard library that was
# built for size, in which a panic is a trap and has no text. First that works:
#   (a) the compiler's source is here   (b) rustup adds it   (c) Debian's compiler, which has it   (d) the ready-made one
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Every crate must be of std's kind of panic. The mangling is the compiler's default, which RUSTC_BOOTSTRAP changes to one
# with longer names.
flags="-Zunstable-options -Cpanic=immediate-abort -Csymbol-mangling-version=legacy"
profile='opt-level = "s"\ncodegen-units = 1'
features=optimize_for_size

has_source() {
    [[ -e $("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/src/rust/library/std/Cargo.toml ]]
}

rustup_adds_source() {
    command -v rustup >/dev/null || return 1
    step "rustup component add rust-src (seconds; given up after two minutes)"
    timeout 120 rustup component add rust-src >&2 && has_source
}

selection=$("$root/.make/wasm-target.sh")
eval "$selection"
if ! has_source; then
    # Prepared by an earlier run, which has asked rustup already.
    if debian=$("$root/.make/wasm-target.sh" debian-ready); then
        selection=$debian
    elif rustup_adds_source; then
        :
    elif debian=$("$root/.make/wasm-target.sh" debian); then
        selection=$debian
    else
        step "no source of Rust's standard library ('rustup component add rust-src'): the modules become a fifth larger"
        printf '%s\n' "$selection"
        exit 0
    fi
    eval "$selection"
fi

version=$("${RUSTC:-rustc}" --version)
version=${version#rustc }
recipe=$(cksum <<<"$flags $profile $features")
sysroot=$cache/sysroot-$(tr -cs 'A-Za-z0-9.\n' - <<<"${version%%)*}")-small-${recipe%% *}
if [[ ! -d $sysroot ]]; then
    step "Rust's standard library for the filters, built for size (once, about a minute)"
    CARGO=$WASM_CARGO STD_PROFILE=$profile STD_FEATURES=$features STD_RUSTFLAGS=$flags \
        "$root/.make/build-std.sh" "$sysroot" std,panic_abort wasm32-wasip1
fi

printf '%s\n' "$selection"
# The C library of WASI is beside a ready-made std; Debian's is found by the flags of wasm-target.sh.
own=$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/wasm32-wasip1/lib/self-contained
others=$(sed 's/--sysroot [^ ]*//' <<<"${CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS:-}")
if [[ -d $own ]]; then others+=" -L native=$own"; fi
printf 'unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS\n'
printf 'export RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS=%q\n' "--sysroot $sysroot $flags $others"
