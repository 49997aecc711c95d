#!/usr/bin/env bash
# collector.sh: real log lines and real spans through a real OpenTelemetry Collector; the spans are those of Envoys with
# mesh_tracing and of applications with an SDK.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

collector=$(.make/collector.sh)
for version in 1.36.4 1.37.0 1.39.3 1.40.0; do
    .make/envoy.sh "$version" >/dev/null
done
DEMO_PYTHON=$(.make/python-env.sh test-envoy/demo/apps/requirements.txt)
export DEMO_PYTHON
COLLECTOR_BIN=$collector cargo test --locked --package envoy-test-harness \
    --test access_log_trace --test mesh_tracing collector:: -- --ignored
JAEGER_BIN=$(.make/jaeger.sh --cached)
export JAEGER_BIN
step "the walk-through's Collector${JAEGER_BIN:+, and a Jaeger behind it}"
COLLECTOR_BIN=$collector cargo test --locked --package envoy-test-harness --test examples walkthrough::collector_ -- --ignored
