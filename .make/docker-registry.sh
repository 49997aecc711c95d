#!/usr/bin/env bash
# docker-registry.sh: makes sure that there is a real registry in the cache, Debian's, and prints the program's path. Its
# package is unpacked and not installed: an installed one starts a service on a port that is somebody else's.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

program=$cache/docker-registry/docker-registry
if [[ ! -x $program ]]; then
    command -v apt-get >/dev/null || die "docker-registry is missing, and this machine has no apt-get to fetch it with"
    step "docker-registry (once, about 6 MB)"
    mkdir -p "$cache/docker-registry"
    work=$(mktemp -d "$cache/docker-registry/download.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    # apt gives up root while it downloads.
    chmod 755 "$work"
    fetch() { (cd "$work" && quietly apt-get download -q docker-registry); }
    fetch 2>/dev/null || {
        as_root=()
        if [[ $(id -u) -ne 0 ]]; then as_root=(sudo -n); fi
        quietly "${as_root[@]}" apt-get update -q || true
        fetch || die "apt-get cannot fetch docker-registry"
    }
    dpkg-deb -x "$work"/docker-registry_*.deb "$work/package"
    "$work/package/usr/bin/docker-registry" --version >/dev/null || die "docker-registry does not run on this machine"
    mv "$work/package/usr/bin/docker-registry" "$program"
fi
printf '%s\n' "$program"
