#!/usr/bin/env bash
# logs.sh: the forms of the access log in the oldest and the newest Envoy, and a pod's lines through a real Collector.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

cargo build --quiet --locked --package meshtrace-cli
programs=$root/${CARGO_TARGET_DIR:-target}/debug
[[ ${CARGO_TARGET_DIR:-} == /* ]] && programs=$CARGO_TARGET_DIR/debug
python=$(.make/python-env.sh .make/mesh/requirements.txt)
"$python" -B .make/mesh/logs.py "$(.make/collector.sh)" "$programs/meshtrace" "$(.make/envoy.sh 1.36.4)" "$(.make/envoy.sh 1.40.0)"
