#!/usr/bin/env bash
# jaeger.sh: a gateway, a sidecar and an application report to a real Jaeger, which is asked as its users and Kiali ask it.
# Jaeger takes long to compile: where the cache has none, what is exported is compared with what the fixture's Jaeger was
# given. JAEGER=1 compiles it; UPDATE_JAEGER=1 writes the fixture. KIALI_SOURCE names a folder with Kiali's source, whose code
# asks the Jaeger too: git clone https://github.com/kiali/kiali, in August 2026.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

if [[ ${JAEGER:-} == 1 ]]; then jaeger=$(.make/jaeger.sh); else jaeger=$(.make/jaeger.sh --cached); fi
if [[ -z $jaeger ]]; then step "no Jaeger in the cache: its stored answers are compared (JAEGER=1 compiles it)"; fi
python=$(.make/python-env.sh test-envoy/demo/apps/requirements.txt)
old=$(.make/envoy.sh 1.36.4)
new=$(.make/envoy.sh 1.40.0)
kiali=
if [[ -n ${KIALI_SOURCE:-} && -n $jaeger ]]; then
    step "Kiali's code with a test of its questions (minutes the first time)"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    kiali=$work/kiali.test
    source=$(cd "$KIALI_SOURCE" && pwd)
    printf '{"Replace": {"%s/business/meshtrace_test.go": "%s/.make/mesh/kiali/tracing_test.go"}}' "$source" "$root" >"$work/overlay.json"
    (cd "$source" && quietly nice go test -c -overlay "$work/overlay.json" -o "$kiali" ./business) || die "go cannot compile Kiali's code in $source"
fi
"$python" -B .make/mesh/jaeger.py "wasm=1.40=$new,wasm=1.36=$old,native=1.40=$new" ${jaeger:+"$jaeger"} ${kiali:+"$kiali"}
if [[ -n $jaeger ]]; then
    # Its traces: four, and one of each further act.
    said=$(JAEGER_BIN=$jaeger JAEGER=1 .make/demo.sh </dev/null 2>&1) || die "the demo with Jaeger: $said"
    [[ $said == *'Jaeger got 7 traces.'* ]] || die "the demo with Jaeger: $said"
    step "the demo in Jaeger: 7 traces"
fi
