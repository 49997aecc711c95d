#!/usr/bin/env bash
# apt.sh <package>…: installs those Debian packages that are missing, as root or with sudo.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

missing=()
for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [[ ${#missing[@]} -eq 0 ]]; then exit 0; fi

command -v apt-get >/dev/null || die "${missing[*]} missing, and this machine has no apt-get: install them by hand"
as_root=()
if [[ $(id -u) -ne 0 ]]; then
    sudo -n true 2>/dev/null || die "installing needs root; run: sudo apt-get install --no-install-recommends ${missing[*]}"
    as_root=(sudo -n)
fi

step "Debian packages: ${missing[*]} (under a minute)"
# --no-remove: somebody else's packages are not ours to replace.
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive
    apt-get install -y -q --no-install-recommends --no-remove "${missing[@]}")
# A fresh machine's lists are empty or stale, and stale ones have a compiler that is too old.
quietly "${as_root[@]}" apt-get update -q || step "apt-get update failed, trying with the lists that are here"
quietly "${install[@]}" || die "apt-get could not install ${missing[*]}"
