#!/usr/bin/env bash
# Proves the order in which wasm-std.sh looks for the source of the standard library: every program that it asks is a fake on
# PATH.
set -euo pipefail

script=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/wasm-std.sh
# shellcheck source-path=SCRIPTDIR source=faked/machine.sh
source "$(dirname "${BASH_SOURCE[0]}")/faked/machine.sh"

# The body of a cargo that compiles what build-std.sh asks for.
# shellcheck disable=SC2016  # the body expands its own variables
builds='for t in wasm32-wasip1 wasm32-unknown-unknown; do
    mkdir -p "$CARGO_TARGET_DIR/$t/release/deps"; : >"$CARGO_TARGET_DIR/$t/release/deps/libstd-0.rlib"; done'

# A machine with a rustc that has the targets and no source, a rustup that cannot reach its server, and an apt-get that has
# Debian's compiler, with its source.
new_machine() {
    rm -rf "${work:?}"/*
    mkdir -p "$work/bin" "$work/debian"
    for tool in bash env dirname timeout tr mkdir mktemp rm mv cp grep tail id chmod sed cksum; do
        ln -s "$(command -v "$tool")" "$work/bin/$tool"
    done
    for target in wasm32-wasip1 wasm32-unknown-unknown; do
        mkdir -p "$work/sysroot/lib/rustlib/$target/lib"
        : >"$work/sysroot/lib/rustlib/$target/lib/libstd-0.rlib"
    done
    fake rustc '[[ $1 == --version ]] && echo "rustc 1.95.0 (0abcdef 2026-01-01)" || echo "'"$work"'/sysroot"'
    fake cargo "$builds"
    fake rustup 'exit 1'
    fake dpkg-query 'exit 1'
    # shellcheck disable=SC2016
    fake sudo 'while [[ $1 == -* ]]; do shift; done; "$@"'
    printf '%s\n' "$builds" >"$work/builds"
    fake apt-get "[[ \$1 == install ]] || exit 0
        mkdir -p '$work/debian/sysroot/lib/rustlib/src/rust/library/std'
        : >'$work/debian/sysroot/lib/rustlib/src/rust/library/std/Cargo.toml'
        printf '#!/bin/bash\n[[ \$1 == --version ]] && echo \"rustc 1.96.0 (0123abc 2026-01-01)\" || echo $work/debian/sysroot\n' >'$work/debian/rustc'
        { printf '#!/bin/bash\necho \"debian-cargo \$*\" >>%s/calls\n' '$work'; cat '$work/builds'; } >'$work/debian/cargo'
        chmod +x '$work/debian/'{rustc,cargo}"
    ln -s "$(command -v cat)" "$work/bin/cat"
}

leave_source() {
    mkdir -p "$work/sysroot/lib/rustlib/src/rust/library/std"
    : >"$work/sysroot/lib/rustlib/src/rust/library/std/Cargo.toml"
}

new_machine
leave_source
run
expect '(a) succeeds' test "$status" -eq 0
expect '(a) asks rustup nothing' not_called rustup
expect '(a) installs nothing' not_called apt-get
expect '(a) builds std for size' called 'cargo build .*optimize_for_size'
expect '(a) takes the cargo on PATH' printed '^export WASM_CARGO=cargo$'
expect '(a) points to the sysroot of this compiler' printed 'sysroot-1.95.0-0abcdef-2026-01-01-small-'
expect '(a) has a trap for a panic' printed 'immediate-abort'
run
expect '(a) again does not build' not_called 'cargo build'
expect '(a) again says nothing' silent

new_machine
fake rustup "mkdir -p '$work/sysroot/lib/rustlib/src/rust/library/std'; : >'$work/sysroot/lib/rustlib/src/rust/library/std/Cargo.toml'"
run
expect '(b) asks rustup' called 'rustup component add rust-src'
expect '(b) installs nothing' not_called apt-get
expect '(b) builds std for size' called 'cargo build .*optimize_for_size'

new_machine
run
expect '(c) succeeds' test "$status" -eq 0
expect '(c) comes after rustup' called rustup
expect "(c) takes Debian's cargo" printed "^export WASM_CARGO=$work/debian/cargo\$"
expect '(c) builds std for size' called 'debian-cargo build .*optimize_for_size'
expect '(c) points to its sysroot' printed 'sysroot-1.96.0-0123abc-2026-01-01-small-'
run
expect '(c) again does not build' not_called 'debian-cargo build'
expect '(c) again asks nobody' not_called 'rustup\|apt-get'
expect '(c) again says nothing' silent

new_machine
fake apt-get 'exit 100'
run
expect '(d) succeeds' test "$status" -eq 0
expect '(d) takes the cargo on PATH' printed '^export WASM_CARGO=cargo$'
expect '(d) selects no other std' test "$(grep -c . "$work/stdout")" -eq 1
expect '(d) says what the modules become' told "the modules become a fifth larger"

echo 'wasm-std: ok'
