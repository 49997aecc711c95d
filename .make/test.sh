#!/usr/bin/env bash
# test.sh: the native tests, against every supported Envoy.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

# The harness finds them where this leaves them.
for version in 1.36.4 1.37.0 1.38.3 1.39.3 1.40.0; do
    .make/envoy.sh "$version" >/dev/null
done

.make/apt.sh skopeo valgrind
.make/docker-registry.sh >/dev/null
.make/python-env.sh test-envoy/tests/all_filters/strict/requirements.txt >/dev/null

step "native tests"
list=$(mktemp)
trap 'rm -f "$list"' EXIT
cargo test --workspace --locked --no-run --message-format=json-render-diagnostics >"$list"
rm -rf target/promises
python3 .make/run-tests.py "$list"
python3 .make/faults.py
