#!/usr/bin/env bash
# zigbuild.sh <processor> <profile> <package>: compiles a package for Linux on that processor, for every glibc since 2.17,
# and prints the folder of what came out. Without a toolchain for the processor it says so and ends with 3.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

processor=$1 profile=$2 package=$3
# The oldest glibc that Rust's own standard library runs on. Envoy itself needs a newer one.
glibc=2.17
target=$processor-unknown-linux-gnu
targets=${CARGO_TARGET_DIR:-target}
[[ $targets == /* ]] || targets=$root/$targets

# cargo-zigbuild and its Zig.
python=$(.make/python-env.sh .make/native-requirements.txt) || exit 3
linkers=$(dirname "$python")
selection=$(.make/native-target.sh "$target") || exit 3
eval "$selection"
# A program has the paths of its sources in it: those of this machine would make it another one elsewhere.
variable=${target^^}
export "CARGO_TARGET_${variable//-/_}_RUSTFLAGS=--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo \
--remap-path-prefix=$root=/meshtrace"
export CARGO=$NATIVE_CARGO CARGO_ZIGBUILD_CACHE_DIR=$cache/zig ZIG_GLOBAL_CACHE_DIR=$cache/zig/global
# Two compilers do not rebuild each other's work.
export CARGO_TARGET_DIR=$targets/$processor
# shellcheck disable=SC2086  # no flag, or one
PATH=$linkers:$PATH "$linkers/cargo-zigbuild" zigbuild --quiet --locked $NATIVE_FLAGS \
    --profile "$profile" --package "$package" --target "$target.$glibc" >&2
printf '%s\n' "$CARGO_TARGET_DIR/$target/$profile"
