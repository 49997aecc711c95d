#!/usr/bin/env bash
# prometheus.sh: makes sure that there are Debian's prometheus and promtool in the cache, and prints their folder. The package
# is unpacked and not installed: an installed one starts a service on a port that is somebody else's.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

folder=$cache/prometheus
if [[ ! -x $folder/prometheus || ! -x $folder/promtool ]]; then
    command -v apt-get >/dev/null || die "prometheus is missing, and this machine has no apt-get to fetch it with"
    step "prometheus and promtool (once, about 20 MB)"
    mkdir -p "$folder"
    work=$(mktemp -d "$folder/download.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    # apt gives up root while it downloads.
    chmod 755 "$work"
    fetch() { (cd "$work" && quietly apt-get download -q prometheus); }
    fetch 2>/dev/null || {
        as_root=()
        if [[ $(id -u) -ne 0 ]]; then as_root=(sudo -n); fi
        quietly "${as_root[@]}" apt-get update -q || true
        fetch || die "apt-get cannot fetch prometheus"
    }
    dpkg-deb -x "$work"/prometheus_*.deb "$work/package"
    "$work/package/usr/bin/promtool" --version >/dev/null 2>&1 || die "promtool does not run on this machine"
    mv "$work"/package/usr/bin/{prometheus,promtool} "$folder"
fi
printf '%s\n' "$folder"
