#!/usr/bin/env bash
# The rules of examples/alerts by promtool, and a real Prometheus that scrapes a real Envoy with the filters: every query of
# the dashboard and of the rules finds its series, and docs/metrics.md has every name. UPDATE_METRICS=1 writes the names.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

programs=$(.make/prometheus.sh)
quietly "$programs/promtool" check rules examples/alerts/rules.yaml
quietly "$programs/promtool" test rules examples/alerts/rules.test.yaml
# Prometheus of the walk-through has the rules beside its own file.
beside=$(mktemp -d)
trap 'rm -rf "$beside"' EXIT
cp examples/walkthrough/prometheus.yaml examples/alerts/rules.yaml "$beside"
quietly "$programs/promtool" check config "$beside/prometheus.yaml"
step "promtool: the rules of examples/alerts pass their tests"

[[ -f dist/mesh_tracing.wasm ]] || die "no dist/mesh_tracing.wasm: run make build"
python3 -B .make/tests/prometheus.py "$programs/prometheus" "$(.make/envoy.sh)"
