#!/usr/bin/env bash
# jaeger.sh: a gateway, a sidecar and an application report to a real Jaeger, which is asked as its users and Kiali ask it.
# Jaeger takes long to compile: where the cache has none, what is exported is compared with what the fixture's Jaeger was
# given. JAEGER=1 compiles it; UPDATE_JAEGER=1 writes the fixture.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

if [[ ${JAEGER:-} == 1 ]]; then jaeger=$(.make/jaeger.sh); else jaeger=$(.make/jaeger.sh --cached); fi
if [[ -z $jaeger ]]; then step "no Jaeger in the cache: its stored answers are compared (JAEGER=1 compiles it)"; fi
python=$(.make/python-env.sh test-envoy/demo/apps/requirements.txt)
old=$(.make/envoy.sh 1.36.4)
new=$(.make/envoy.sh 1.40.0)
"$python" -B .make/mesh/jaeger.py "wasm=1.40=$new,wasm=1.36=$old,native=1.40=$new" ${jaeger:+"$jaeger"}
if [[ -n $jaeger ]]; then
    # Its traces: four, and one of each further act.
    said=$(JAEGER_BIN=$jaeger JAEGER=1 .make/demo.sh </dev/null 2>&1) || die "the demo with Jaeger: $said"
    [[ $said == *'Jaeger got 7 traces.'* ]] || die "the demo with Jaeger: $said"
    step "the demo in Jaeger: 7 traces"
fi
