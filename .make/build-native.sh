#!/usr/bin/env bash
# build-native.sh [x86_64|aarch64]…: compiles the native tracer for Linux, by default for both processors, to
# dist/<processor>/libmeshtrace.so; dist/libmeshtrace.so is that of this machine's processor. A processor other than this
# machine's is left out with a line that says so where no toolchain for it can be had.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

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

# build <processor>: 3 where no toolchain can be had.
build() {
    local folder
    step "the native tracer for $1: dist/$1/libmeshtrace.so (seconds; the first time three minutes)"
    folder=$(.make/zigbuild.sh "$1" native meshtrace-native) || return
    take "$folder/libmeshtrace.so" "dist/$1/libmeshtrace.so" || die "dist/$1/libmeshtrace.so cannot be written"
}

# The linkers of zigbuild.sh.
if ! .make/python-env.sh .make/native-requirements.txt >/dev/null; then
    step "pip cannot fetch the linker: the native tracer is for machines with this one's glibc and libgcc_s alone"
    cargo build --quiet --locked --profile native --package meshtrace-native
    take "$targets/native/libmeshtrace.so" dist/libmeshtrace.so
    for processor in "${processors[@]}"; do
        if [[ $processor != "$here" ]]; then step "skipped: the native tracer for $processor"; fi
    done
    exit 0
fi
for processor in "${processors[@]}"; do
    status=0
    build "$processor" || status=$?
    if [[ $status -eq 0 ]]; then
        if [[ $processor == "$here" ]]; then take "dist/$processor/libmeshtrace.so" dist/libmeshtrace.so; fi
    elif [[ $status -ne 3 || $processor == "$here" ]]; then
        die "the native tracer was not compiled"
    else
        # What an earlier build left is not this one's.
        rm -f "dist/$processor/libmeshtrace.so"
        step "skipped: the native tracer for $processor"
    fi
done
