#!/usr/bin/env bash
# long.sh: what is too long for every change.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

step "property tests, 1,000,000 cases each (minutes)"
PROPTEST_CASES=1000000 cargo test --release --locked --package meshtrace-propagation --test round_trips
PROPTEST_CASES=1000000 cargo test --release --locked --package meshtrace-log-ids --test any_bytes
