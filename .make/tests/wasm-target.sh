#!/usr/bin/env bash
# Proves the order in which wasm-target.sh looks for a toolchain: every program that it asks is a fake on PATH.
set -euo pipefail

script=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/wasm-target.sh
# shellcheck source-path=SCRIPTDIR source=faked/machine.sh
source "$(dirname "${BASH_SOURCE[0]}")/faked/machine.sh"

# The body that leaves a standard library for both targets under the given folder.
leave_std() {
    # shellcheck disable=SC2016  # the body expands its own variables
    printf 'for t in wasm32-wasip1 wasm32-unknown-unknown; do mkdir -p "%s/$t/%s"; : >"%s/$t/%s/libstd-0.rlib"; done' \
        "$1" "$2" "$1" "$2"
}

# A machine with a rustc without targets, a rustup that cannot reach its server, and an apt-get that has the packages.
new_machine() {
    rm -rf "${work:?}"/*
    mkdir -p "$work/bin" "$work/debian" "$work/sysroot"
    for tool in bash env dirname timeout tr mkdir mktemp rm mv cp grep tail id chmod; do
        ln -s "$(command -v "$tool")" "$work/bin/$tool"
    done
    fake rustc 'echo "'"$work"'/sysroot"'
    fake rustup 'exit 1'
    fake dpkg-query 'exit 1'
    # shellcheck disable=SC2016
    fake sudo 'while [[ $1 == -* ]]; do shift; done; "$@"'
    fake apt-get "[[ \$1 == install ]] || exit 0
        printf '#!/bin/bash\necho \"rustc 1.96.0 (0123abc 2026-01-01)\"\n' >'$work/debian/rustc'
        printf '#!/bin/bash\necho \"debian-cargo\" >>%s/calls\n%s\n' '$work' '$(leave_std "\$CARGO_TARGET_DIR" release/deps)' >'$work/debian/cargo'
        chmod +x '$work/debian/'*"
}

new_machine
eval "$(leave_std "$work/sysroot/lib/rustlib" lib)"
run
expect '(a) succeeds' test "$status" -eq 0
expect '(a) takes the cargo on PATH' printed '^export WASM_CARGO=cargo$'
expect '(a) asks rustup nothing' not_called rustup
expect '(a) installs nothing' not_called apt-get
expect '(a) says nothing' silent

new_machine
rm -r "$work/bin/apt-get"
mkdir -p "$work/sysroot/lib/rustlib/wasm32-wasip1/lib"
: >"$work/sysroot/lib/rustlib/wasm32-wasip1/lib/libstd-0.rlib"
run
expect 'one target of the two is not enough for (a)' called 'rustup target add wasm32-wasip1 wasm32-unknown-unknown'

new_machine
fake rustup "$(leave_std "$work/sysroot/lib/rustlib" lib)"
run
expect '(b) succeeds' test "$status" -eq 0
expect '(b) asks rustup' called 'rustup target add wasm32-wasip1 wasm32-unknown-unknown'
expect '(b) takes the cargo on PATH' printed '^export WASM_CARGO=cargo$'
expect '(b) installs nothing' not_called apt-get

new_machine
fake rustup 'exit 0'
run
expect 'a rustup that only claims success leads to (c)' printed "^export WASM_CARGO=$work/debian/cargo\$"

new_machine
run
expect '(c) succeeds' test "$status" -eq 0
expect '(c) comes after rustup' called rustup
expect '(c) installs the packages' called 'apt-get install .*rustc-web cargo-web rust-web-src lld-19 wasi-libc'
expect '(c) builds std' called debian-cargo
expect "(c) takes Debian's cargo" printed "^export WASM_CARGO=$work/debian/cargo\$"
expect '(c) points to the sysroot of this compiler' printed 'sysroot-1.96.0-0123abc'
expect '(c) leaves no work folder' test -z "$(compgen -G "$work/cache/std.*")"
run
expect '(c) again succeeds' test "$status" -eq 0
expect '(c) again does not build' not_called debian-cargo
expect '(c) again asks nobody' not_called 'rustup\|apt-get'
expect '(c) again says nothing' silent

new_machine
rm "$work/bin/rustup" "$work/bin/rustc"
run
expect '(c) works without any Rust' printed "^export WASM_CARGO=$work/debian/cargo\$"

new_machine
rm "$work/bin/apt-get"
run
expect '(d) fails' test "$status" -ne 0
expect '(d) says what to do' told "^error: no Rust target for Wasm: run 'rustup target add"
expect '(d) prints nothing to evaluate' test ! -s "$work/stdout"

new_machine
fake apt-get 'exit 100'
run
expect '(d) fails when apt-get does' test "$status" -ne 0
expect '(d) says so after apt-get' told '^error: no Rust target for Wasm'

# Before all of that: an old rustc is in the way of Debian's newer one.
mkdir -p "$work/old"
printf '#!/bin/bash\necho "rustc 1.63.0 (0123abc 2022-01-01)"\n' >"$work/old/rustc"
chmod +x "$work/old/rustc"
status=0
PATH=$work/old:$PATH "${script%/*}/build-filters.sh" >"$work/stdout" 2>"$work/stderr" || status=$?
expect 'an old rustc fails' test "$status" -ne 0
expect 'an old rustc: says what to do' told '^error: rustc 1.63.0 is too old'
expect 'an old rustc: and nothing before' test "$(wc -l <"$work/stderr")" -eq 1

echo 'wasm-target: ok'
