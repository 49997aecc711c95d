#!/usr/bin/env bash
# python-env.sh <requirements.txt>: makes sure that there is a virtual environment with exactly these packages and
# prints the path of its Python.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

requirements=${1:?usage: python-env.sh <requirements.txt>}
[[ -f $requirements ]] || die "no such file: $requirements"
# The interpreter counts too: an environment does not survive its upgrade.
hash=$( (python3 --version && cat "$requirements") 2>/dev/null | sha256sum | cut -c1-16)
venv=$cache/venv/$hash

if [[ ! -e $venv/complete ]]; then
    step "Python packages of ${requirements#"$root"/} (once, about a minute)"
    rm -rf "$venv"
    mkdir -p "$cache/venv"
    # Debian's Python comes without the parts that make an environment.
    python3 -m venv "$venv" >/dev/null 2>&1 || {
        "$root/.make/apt.sh" python3 python3-venv
        rm -rf "$venv"
        quietly python3 -m venv "$venv" || die "python3 cannot make a virtual environment"
    }
    quietly "$venv/bin/python" -m pip install --quiet --requirement "$requirements" ||
        die "pip cannot install $requirements"
    touch "$venv/complete"
fi
printf '%s\n' "$venv/bin/python"
