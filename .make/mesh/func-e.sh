#!/usr/bin/env bash
# func-e.sh: func-e runs the configuration of every example, and curl gets what the example's page says.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

version=v1.6.0
tool=$cache/tools/func-e-$version
if [[ ! -x $tool/func-e ]]; then
    step "func-e $version (once, about a minute)"
    (cd / && GOBIN=$tool nice go install "github.com/tetratelabs/func-e/cmd/func-e@$version") ||
        die "go cannot install func-e $version"
fi
command -v curl >/dev/null || .make/apt.sh curl
ENVOY_PATH=$(.make/envoy.sh)
export ENVOY_PATH
# Where the example with the native tracer finds its module.
export ENVOY_DYNAMIC_MODULES_SEARCH_PATH=$root/dist
# What func-e keeps of a run is of no use afterwards.
FUNC_E_HOME=$(mktemp -d)
export FUNC_E_HOME
started=
stop() {
    if [[ -z $started ]]; then return; fi
    kill -INT "$started" 2>/dev/null || true
    wait "$started" 2>/dev/null || true
    started=
}
trap 'stop; rm -rf "$FUNC_E_HOME"' EXIT

for configuration in examples/*/envoy.yaml; do
    example=${configuration%/envoy.yaml}
    log=$FUNC_E_HOME/$(basename "$example").log
    "$tool/func-e" run -c "$configuration" >"$log" 2>&1 &
    started=$!
    # The port of its admin interface; every example has the same.
    for _ in $(seq 150); do
        curl -sf localhost:9901/ready >/dev/null && break
        kill -0 "$started" 2>/dev/null || { tail -n 20 "$log" >&2; die "func-e has ended: $example"; }
        sleep 0.2
    done
    # One that asks other programs has no console: its own test follows it.
    grep -q '^```console' "$example/README.md" || { stop; continue; }
    .make/mesh/follow-page.py "$example/README.md" || { tail -n 20 "$log" >&2; die "$example"; }
    stop
done
