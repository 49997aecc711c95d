#!/usr/bin/env bash
# logs.sh: the forms of the access log in the oldest and the newest Envoy, and a pod's lines through a real Collector and, where
# the cache has one, into a real Loki. LOKI=1 compiles it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

cargo build --quiet --locked --package meshtrace-cli
programs=$root/${CARGO_TARGET_DIR:-target}/debug
[[ ${CARGO_TARGET_DIR:-} == /* ]] && programs=$CARGO_TARGET_DIR/debug
python=$(.make/python-env.sh .make/mesh/requirements.txt)
if [[ ${LOKI:-} == 1 ]]; then loki=$(.make/loki.sh); else loki=$(.make/loki.sh --cached); fi
if [[ -z $loki ]]; then step "no Loki in the cache: a server in its place takes the records (LOKI=1 compiles it)"; fi
"$python" -B .make/mesh/logs.py "$(.make/collector.sh)" "$programs/meshtrace" "$(.make/envoy.sh 1.36.4)" \
    "$(.make/envoy.sh 1.40.0)" ${loki:+"$loki"}
