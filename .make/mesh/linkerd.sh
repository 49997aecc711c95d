#!/usr/bin/env bash
# linkerd.sh: what leaves an Envoy with trace_context, read by the rules of Linkerd's proxy.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

python=$(.make/python-env.sh .make/mesh/requirements.txt)
"$python" -B .make/mesh/linkerd.py "$(.make/envoy.sh 1.36.4)" "$(.make/envoy.sh 1.40.0)"
