#!/usr/bin/env bash
# test-mesh.sh: the tests with real parts that are built with Go. What cannot be tested for want of a part is said;
# STRICT=1 makes that a failure.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

if ! collector=$(.make/collector.sh); then
    step "NOT TESTED: the access log through an OpenTelemetry Collector, for there is no Collector"
    [[ ${STRICT:-} == 1 ]] && die "STRICT=1: something was not tested"
    exit 0
fi
for version in 1.36.4 1.37.0 1.39.3 1.40.0; do
    .make/envoy.sh "$version" >/dev/null
done

step "tests with the Collector"
COLLECTOR_BIN=$collector cargo test --locked --package envoy-test-harness --test mesh_collector -- --ignored
