#!/usr/bin/env bash
# jaeger.sh: makes sure that there is a Jaeger, and prints its path: $JAEGER_BIN where that is set, else one that is built from
# its Go module. `jaeger.sh --cached` builds nothing, and prints nothing where there is none.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if [[ -n ${JAEGER_BIN:-} ]]; then
    [[ -x $JAEGER_BIN ]] || die "JAEGER_BIN is $JAEGER_BIN, which is not a program"
    printf '%s\n' "$JAEGER_BIN"
    exit 0
fi

version=v1.76.0
jaeger=$cache/jaeger/$version/jaeger
if [[ ! -x $jaeger ]]; then
    if [[ ${1:-} == --cached ]]; then exit 0; fi
    command -v go >/dev/null || die "no Go on PATH (1.26 or newer), which Jaeger is built with; or set JAEGER_BIN"
    step "Jaeger $version from source: once, six to twenty minutes on two cores, 2 GB of memory"
    mkdir -p "$cache/jaeger/$version"
    work=$(mktemp -d "$cache/jaeger/build.XXXXXX")
    # Says every half minute that it goes on.
    (
        begun=$SECONDS
        trap 'kill "$nap"; exit' TERM
        while true; do
            sleep 30 &
            nap=$!
            wait "$nap"
            step "Jaeger is being compiled: $(((SECONDS - begun) / 60)) min $(((SECONDS - begun) % 60)) s"
        done
    ) >/dev/null &
    said=$!
    trap 'kill "$said" 2>/dev/null || true; rm -rf "$work"' EXIT
    (
        cd "$work"
        # `go install` refuses a module with replace directives.
        quietly go mod init build
        quietly go get "github.com/jaegertracing/jaeger/cmd/jaeger@$version"
        GOFLAGS="${GOFLAGS:+$GOFLAGS }-mod=mod" quietly nice go build -trimpath -ldflags='-s -w' -o jaeger \
            github.com/jaegertracing/jaeger/cmd/jaeger
    ) || die "go cannot build Jaeger $version"
    "$work/jaeger" version >/dev/null 2>&1 || die "Jaeger does not run on this machine"
    mv "$work/jaeger" "$jaeger"
fi
printf '%s\n' "$jaeger"
