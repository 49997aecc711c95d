#!/usr/bin/env bash
# native-target.sh <target>: finds a Rust toolchain for a platform that may be another than this machine's, and prints the
# shell lines that select it (NATIVE_CARGO, NATIVE_FLAGS, and what cargo needs beside it). First that works:
#   (a) the active rustc has the target   (b) Debian's compiler is here, with the source of the standard library
#   (c) rustup adds the target   (d) Debian's packages   (e) an error
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

target=${1:?usage: native-target.sh <target>}
packages=(rustc-web cargo-web rust-web-src)
# Where Debian's rustc and cargo are, and the source; elsewhere only in this script's own test.
debian_bin=${MESHTRACE_DEBIAN_BIN:-/usr/bin}
debian_source=${MESHTRACE_DEBIAN_SOURCE:-/usr/lib/rustlib/src/rust/library/std/Cargo.toml}

active_has_target() {
    local sysroot
    sysroot=$(rustc --print sysroot 2>/dev/null) && compgen -G "$sysroot/lib/rustlib/$target/lib/libstd-*.rlib" >/dev/null
}

rustup_adds_target() {
    command -v rustup >/dev/null || return 1
    step "rustup target add $target (seconds; given up after two minutes)"
    # An unreachable server makes rustup hang or fail: neither may stop the search here.
    if timeout 120 rustup target add "$target" >&2 && active_has_target; then return 0; fi
    step "rustup could not add it"
    return 1
}

debian_ready() {
    [[ -e $debian_source ]] && "$debian_bin/rustc" --version >/dev/null 2>&1
}

print_active() {
    printf 'export NATIVE_CARGO=cargo NATIVE_FLAGS=\n'
}

# The standard library is compiled with the module.
print_debian() {
    printf 'unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS RUSTUP_TOOLCHAIN\n'
    printf 'export %s=%q\n' NATIVE_CARGO "$debian_bin/cargo" NATIVE_FLAGS -Zbuild-std=std,panic_unwind \
        RUSTC "$debian_bin/rustc" RUSTC_BOOTSTRAP 1
}

if active_has_target; then
    print_active
elif debian_ready; then
    print_debian
elif rustup_adds_target; then
    print_active
elif command -v apt-get >/dev/null && "$root/.make/apt.sh" "${packages[@]}" && debian_ready; then
    print_debian
else
    die "no Rust for $target: run 'rustup target add $target', or on Debian 'sudo apt-get install ${packages[*]}'"
fi
