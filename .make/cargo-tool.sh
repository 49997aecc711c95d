#!/usr/bin/env bash
# cargo-tool.sh <crate> <version> <how long> [option of cargo install]…: makes sure that a program from a Rust crate is in
# the cache, in exactly this version, and prints the folder that it is in.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

crate=$1 version=$2 how_long=$3
shift 3
tool=$cache/tools/$crate-$version
if [[ ! -e $tool/complete ]]; then
    step "$crate $version (once, $how_long)"
    (
        cd /
        unset CARGO_TARGET_DIR CARGO_BUILD_TARGET
        # Compiled soon rather than fast: each runs for seconds.
        export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
        # The author's lock file may name what the registry in use does not have; then whatever fits.
        cargo install --quiet --locked --root "$tool" --version "$version" "$@" "$crate" 2>/dev/null ||
            cargo install --quiet --root "$tool" --version "$version" "$@" "$crate" >&2
    ) || die "cargo cannot install $crate $version"
    touch "$tool/complete"
fi
printf '%s\n' "$tool/bin"
