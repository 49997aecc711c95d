#!/usr/bin/env bash
# bench.sh: what a request costs, side by side; a table, and dist/bench.json.
# BENCH_ROUNDS (5) and BENCH_SECONDS (3) a row; ENVOY_BIN for another Envoy than the newest.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

command -v wrk >/dev/null || .make/apt.sh wrk
ENVOY_BIN=${ENVOY_BIN:-$(.make/envoy.sh)}
export ENVOY_BIN

step "nine Envoys in turn (about three minutes; the machine should have nothing else to do)"
exec cargo bench --quiet --locked --package envoy-test-harness --bench cost
