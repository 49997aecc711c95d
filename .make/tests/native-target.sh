#!/usr/bin/env bash
# Proves the order in which native-target.sh looks for a toolchain: every program that it asks is a fake on PATH.
set -euo pipefail

script=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/native-target.sh
target=aarch64-unknown-linux-gnu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# fake <folder> <name> <body>: a program that notes its call and then does what the body says.
fake() {
    printf '#!/bin/bash\necho "%s $*" >>"%s/calls"\n%s\n' "$2" "$work" "$3" >"$work/$1/$2"
    chmod +x "$work/$1/$2"
}
std="mkdir -p $work/sysroot/lib/rustlib/$target/lib && : >$work/sysroot/lib/rustlib/$target/lib/libstd-0.rlib"

# A machine with a rustc without the target, a rustup that cannot reach its server, and an apt-get that has the packages.
new_machine() {
    rm -rf "${work:?}"/*
    mkdir -p "$work/bin" "$work/debian"
    for tool in bash env dirname timeout mktemp rm tail id chmod grep mkdir; do
        ln -s "$(command -v "$tool")" "$work/bin/$tool"
    done
    fake bin rustc "echo $work/sysroot"
    fake bin rustup 'exit 1'
    fake bin dpkg-query 'exit 1'
    # shellcheck disable=SC2016
    fake bin sudo 'while [[ $1 == -* ]]; do shift; done; "$@"'
    fake bin apt-get "[[ \$1 == install ]] || exit 0
        printf '#!/bin/bash\n' >$work/debian/rustc; chmod +x $work/debian/rustc; : >$work/debian/source"
}

run() {
    : >"$work/calls"
    PATH=$work/bin MESHTRACE_CACHE=$work/cache MESHTRACE_DEBIAN_BIN=$work/debian MESHTRACE_DEBIAN_SOURCE=$work/debian/source \
        bash "$script" "$target" >"$work/stdout" 2>"$work/stderr" && status=0 || status=$?
}

# expect <what> <condition…>
expect() {
    local what=$1
    shift
    if "$@"; then return; fi
    printf 'FAILED: %s\n' "$what" >&2
    sed 's/^/    /' "$work/calls" "$work/stdout" "$work/stderr" >&2
    exit 1
}
called() { grep -q "^$1" "$work/calls"; }
not_called() { ! called "$1"; }
printed() { grep -q -e "$1" "$work/stdout"; }
told() { grep -q -e "$1" "$work/stderr"; }

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
fake bin rustup "$std"
run
expect '(c) asks rustup' called "rustup target add $target"
expect '(c) takes the cargo on PATH' printed '^export NATIVE_CARGO=cargo '
expect '(c) installs nothing' not_called apt-get

new_machine
fake bin rustup 'exit 0'
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
