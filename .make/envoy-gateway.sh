#!/usr/bin/env bash
# envoy-gateway.sh: makes sure that there is an Envoy Gateway, and prints its path: $ENVOY_GATEWAY_BIN where that is set, else
# one that is built from its Go module.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if [[ -n ${ENVOY_GATEWAY_BIN:-} ]]; then
    [[ -x $ENVOY_GATEWAY_BIN ]] || die "ENVOY_GATEWAY_BIN is $ENVOY_GATEWAY_BIN, which is not a program"
    printf '%s\n' "$ENVOY_GATEWAY_BIN"
    exit 0
fi

version=v1.9.1
gateway=$cache/envoy-gateway/$version/envoy-gateway
if [[ ! -x $gateway ]]; then
    command -v go >/dev/null || die "no Go on PATH (1.26 or newer), which Envoy Gateway is built with; or set ENVOY_GATEWAY_BIN"
    step "Envoy Gateway $version from source: once, six to thirty minutes on two cores, 200 MB of disk"
    mkdir -p "$cache/envoy-gateway/$version"
    work=$(mktemp -d "$cache/envoy-gateway/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    (
        cd "$work"
        # `go install` refuses a module with replace directives.
        quietly go mod init build
        quietly go get "github.com/envoyproxy/gateway/cmd/envoy-gateway@$version"
        GOFLAGS="${GOFLAGS:+$GOFLAGS }-mod=mod" quietly nice go build -ldflags='-s -w' -o envoy-gateway \
            github.com/envoyproxy/gateway/cmd/envoy-gateway
    ) || die "Envoy Gateway was not built"
    mv "$work/envoy-gateway" "$gateway"
fi
printf '%s\n' "$gateway"
