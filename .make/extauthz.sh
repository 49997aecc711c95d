#!/usr/bin/env bash
# extauthz.sh: makes sure that there is the external authoriser of Istio's samples, and prints its path. It is built from
# the module that istio-manifests/verify has.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

hash=$(sha256sum "$root/istio-manifests/verify/go.sum" | cut -c1-16)
installed=$cache/tools/extauthz-$hash/extauthz
if [[ ! -x $installed ]]; then
    command -v go >/dev/null || die "no Go, which Istio's authoriser is built with"
    step "Istio's authoriser from source (once, about a minute)"
    mkdir -p "$(dirname "$installed")"
    (cd "$root/istio-manifests/verify" && quietly nice go build -o "$installed.new" istio.io/istio/samples/extauthz/cmd/extauthz) ||
        die "go cannot build Istio's authoriser"
    mv "$installed.new" "$installed"
fi
printf '%s\n' "$installed"
