#!/usr/bin/env bash
# demo.sh: runs the demo with a real Envoy (ENVOY_BIN) and a Python that has the demo's applications (DEMO_PYTHON).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

ENVOY_BIN=$(.make/envoy.sh)
DEMO_PYTHON=$(.make/python-env.sh test-envoy/demo/apps/requirements.txt)
export ENVOY_BIN DEMO_PYTHON

step "demo (the first time it is compiled, about a minute)"
exec cargo run --quiet --locked --package envoy-test-harness --example demo
