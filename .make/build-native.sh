#!/usr/bin/env bash
# build-native.sh [x86_64|aarch64]…: compiles the native tracer for Linux, by default for both processors, to
# dist/<processor>/libmeshtrace.so; dist/libmeshtrace.so is that of this machine's processor. A processor other than this
# machine's is left out with a line that says so where no toolchain for it can be had.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

# The oldest glibc that Rust's own standard library runs on. Envoy itself needs a newer one.
glibc=2.17
here=$(uname -m)
[[ $here == arm64 ]] && here=aarch64
processors=("$@")
# This machine's first: its own failure ends all.
if [[ $# -eq 0 ]]; then
    processors=("$here")
    for processor in x86_64 aarch64; do [[ $processor == "$here" ]] || processors+=("$processor"); done
fi
targets=${CARGO_TARGET_DIR:-target}
[[ $targets == /* ]] || targets=$root/$targets

# take <linked> <released>: another file under the name, as one that an Envoy has loaded must not change.
take() {
    if [[ $2 -nt $1 ]]; then return; fi
    mkdir -p "$(dirname "$2")"
    cp "$1" "$2.new"
    mv "$2.new" "$2"
}

# linkers: the folder of cargo-zigbuild and of its Zig, or nothing.
linkers() {
    local python
    python=$(.make/python-env.sh .make/native-requirements.txt) && dirname "$python"
}

# build <processor> <folder of the linkers> <the lines of native-target.sh>
build() {
    local processor=$1 target=$1-unknown-linux-gnu
    step "the native tracer for $processor: dist/$processor/libmeshtrace.so (seconds; the first time three minutes)"
    (
        eval "$3"
        # A module has the paths of its sources in it: those of this machine would make it another module elsewhere.
        variable=${target^^}
        export "CARGO_TARGET_${variable//-/_}_RUSTFLAGS=--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo \
--remap-path-prefix=$root=/meshtrace"
        export CARGO=$NATIVE_CARGO CARGO_ZIGBUILD_CACHE_DIR=$cache/zig ZIG_GLOBAL_CACHE_DIR=$cache/zig/global
        # Two compilers do not rebuild each other's work.
        export CARGO_TARGET_DIR=$targets/$processor
        # shellcheck disable=SC2086  # no flag, or one
        PATH=$2:$PATH "$2/cargo-zigbuild" zigbuild --quiet --locked $NATIVE_FLAGS \
            --profile native --package meshtrace-native --target "$target.$glibc"
    )
    take "$targets/$processor/$target/native/libmeshtrace.so" "dist/$processor/libmeshtrace.so"
}

if ! folder=$(linkers); then
    step "pip cannot fetch the linker: the native tracer is for machines with this one's glibc and libgcc_s alone"
    cargo build --quiet --locked --profile native --package meshtrace-native
    take "$targets/native/libmeshtrace.so" dist/libmeshtrace.so
    for processor in "${processors[@]}"; do
        if [[ $processor != "$here" ]]; then step "skipped: the native tracer for $processor"; fi
    done
    exit 0
fi
for processor in "${processors[@]}"; do
    if selection=$(.make/native-target.sh "$processor-unknown-linux-gnu"); then
        build "$processor" "$folder" "$selection"
        if [[ $processor == "$here" ]]; then take "dist/$processor/libmeshtrace.so" dist/libmeshtrace.so; fi
    elif [[ $processor == "$here" ]]; then
        die "the native tracer was not compiled"
    else
        # What an earlier build left is not this one's.
        rm -f "dist/$processor/libmeshtrace.so"
        step "skipped: the native tracer for $processor"
    fi
done
