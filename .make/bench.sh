#!/usr/bin/env bash
# bench.sh: measures, section by section, and writes dist/bench.json and a table. Each section is a function that leaves
# its rows in a file of its own; a new one is a function and its name in the list below.
# BENCH_ROUNDS (40) and BENCH_REQUESTS (1600) a round, BENCH_ONLY parts of the names of the rows, with commas between;
# ENVOY_BIN for another Envoy than the newest.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

sections=(propagators requests)

# Our formats beside the published Rust propagators, natively.
propagators() {
    step "propagators, natively (the first time it is compiled, three minutes)"
    cargo bench --quiet --locked --package meshtrace-propagation --bench propagators -- --sample-count 300 --sample-size 64 |
        python3 .make/bench-table.py divan >"$1"
}

# What a request costs in Envoy, beside the alternatives.
requests() {
    step "an Envoy a row, in turn (about eight minutes; the machine should have nothing else to do)"
    ENVOY_BIN=${ENVOY_BIN:-$(.make/envoy.sh)} BENCH_JSON=$1 \
        cargo bench --quiet --locked --package envoy-test-harness --bench cost
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for section in "${sections[@]}"; do
    "$section" "$work/$section.json"
done
mkdir -p dist
python3 .make/bench-table.py join "${sections[@]/#/$work/}" >dist/bench.json
python3 .make/bench-table.py show dist/bench.json
step "the numbers are in dist/bench.json"
