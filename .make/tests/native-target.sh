#!/usr/bin/env bash
# Proves the order in which native-target.sh looks for a toolchain: every program that it asks is a fake on PATH.
set -euo pipefail

script=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/native-target.sh
target=aarch64-unknown-linux-gnu
# shellcheck source-path=SCRIPTDIR source=faked/machine.sh
source "$(dirname "${BASH_SOURCE[0]}")/faked/machine.sh"
arguments=("$target")

std="mkdir -p $work/sysroot/lib/rustlib/$target/lib && : >$work/sysroot/lib/rustlib/$target/lib/libstd-0.rlib"

# A machine with a rustc without the target, a rustup that cannot reach its server, and an apt-get that has the packages.
new_machine() {
    rm -rf "${work:?}"/*
    mkdir -p "$work/bin" "$work/debian"
    for tool in bash env dirname timeout mktemp rm tail id chmod grep mkdir; do
        ln -s "$(command -v "$tool")" "$work/bin/$tool"
    done
    fake rustc "echo $work/sysroot"
    fake rustup 'exit 1'
    fake dpkg-query 'exit 1'
    # shellcheck disable=SC2016
    fake sudo 'while [[ $1 == -* ]]; do shift; done; "$@"'
    fake apt-get "[[ \$1 == install ]] || exit 0
        printf '#!/bin/bash\n' >$work/debian/rustc; chmod +x $work/debian/rustc; : >$work/debian/source"
}

new_machine
eval "$std"
run
expect '(a) takes the cargo on PATH' printed '^export NATIVE_CARGO=cargo NATIVE_FLAGS=$'
expect '(a) asks nobody' not_called 'rustup\|apt-get'

new_machine
printf '#!/bin/bash\n' >"$work/debian/rustc"
chmod +x "$work/debian/rustc"
run
expect 'a compiler without its source is not enough for (b)' called rustup
: >"$work/debian/source"
run
expect "(b) takes Debian's cargo" printed "^export NATIVE_CARGO=$work/debian/cargo\$"
expect '(b) compiles the standard library' printed '^export NATIVE_FLAGS=-Zbuild-std='
expect '(b) asks nobody' not_called 'rustup\|apt-get'

new_machine
fake rustup "$std"
run
expect '(c) asks rustup' called "rustup target add $target"
expect '(c) takes the cargo on PATH' printed '^export NATIVE_CARGO=cargo '
expect '(c) installs nothing' not_called apt-get

new_machine
fake rustup 'exit 0'
run
expect '(d) comes after a rustup that only claims success' called 'apt-get install .*rustc-web cargo-web rust-web-src'
expect "(d) takes Debian's cargo" printed "^export NATIVE_CARGO=$work/debian/cargo\$"

new_machine
rm "$work/bin/apt-get"
run
expect '(e) fails' test "$status" -ne 0
expect '(e) says what to do' told "^error: no Rust for $target: run 'rustup target add $target'"
expect '(e) prints nothing to evaluate' test ! -s "$work/stdout"

echo 'native-target: ok'
