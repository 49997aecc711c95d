#!/usr/bin/env bash
# loki.sh: makes sure that there is a Loki, and prints its path: $LOKI_BIN where that is set, else one that is built from its
# Go module. `loki.sh --cached` builds nothing, and prints nothing where there is none. Loki's licence is the AGPL: the tests
# run it as a process, and nothing of it is in what is built or released here.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if [[ -n ${LOKI_BIN:-} ]]; then
    [[ -x $LOKI_BIN ]] || die "LOKI_BIN is $LOKI_BIN, which is not a program"
    printf '%s\n' "$LOKI_BIN"
    exit 0
fi

version=v3.7.8
module=github.com/grafana/loki/v3
loki=$cache/loki/$version/loki
if [[ ! -x $loki ]]; then
    if [[ ${1:-} == --cached ]]; then exit 0; fi
    command -v go >/dev/null || die "no Go on PATH (1.26 or newer), which Loki is built with; or set LOKI_BIN"
    step "Loki $version from source: once, about ten minutes on two cores"
    mkdir -p "$cache/loki/$version"
    work=$(mktemp -d "$cache/loki/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    (
        source=$(cd / && go mod download -json "$module@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
        # Its own replace directives count where it is the main module. One names a folder that is not part of the module.
        cp -r "$source" "$work/loki"
        chmod -R u+w "$work/loki"
        cd "$work/loki"
        go mod edit -dropreplace github.com/grafana/loki/pkg/push
        GOFLAGS="${GOFLAGS:+$GOFLAGS }-mod=mod" quietly nice go build -trimpath -ldflags='-s -w' -o "$work/program" ./cmd/loki
    ) || die "go cannot build Loki $version"
    "$work/program" -version >/dev/null 2>&1 || die "Loki does not run on this machine"
    mv "$work/program" "$loki"
fi
printf '%s\n' "$loki"
