#!/usr/bin/env bash
# collector.sh: real log lines through a real OpenTelemetry Collector.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

collector=$(.make/collector.sh)
for version in 1.36.4 1.37.0 1.39.3 1.40.0; do
    .make/envoy.sh "$version" >/dev/null
done
COLLECTOR_BIN=$collector cargo test --locked --package envoy-test-harness --test mesh_collector -- --ignored
