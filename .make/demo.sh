#!/usr/bin/env bash
# demo.sh: runs the demo with a real Envoy (ENVOY_BIN) and a Python that has the demo's applications (DEMO_PYTHON).
# JAEGER=1 sends its traces to a Jaeger too, which is compiled once and runs until Enter or Ctrl-C; JAEGER=HOST to one that
# runs there, at its ports 4318 and 16686.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

ENVOY_BIN=$(.make/envoy.sh)
DEMO_PYTHON=$(.make/python-env.sh test-envoy/demo/apps/requirements.txt)
export ENVOY_BIN DEMO_PYTHON
# The shell tells its programs only of itself.
if [[ -t 1 ]]; then
    COLUMNS=$({ stty size </dev/tty | cut -d' ' -f2; } 2>/dev/null) || COLUMNS=
    export COLUMNS
fi

beside=()
case ${JAEGER:-} in
'' | 0) ;;
1)
    jaeger=$(.make/jaeger.sh)
    beside=("$DEMO_PYTHON" -B .make/jaeger/demo.py "$jaeger")
    ;;
*)
    export DEMO_JAEGER_OTLP=$JAEGER:4318 DEMO_JAEGER_PAGE=http://$JAEGER:16686/
    ;;
esac

step "demo (the first time it is compiled, about a minute)"
exec "${beside[@]}" cargo run --quiet --locked --package envoy-test-harness --example demo
