#!/usr/bin/env bash
# authz.sh: examples/ext-authz with Istio's own authoriser, in the oldest and the newest Envoy.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

python=$(.make/python-env.sh .make/mesh/requirements.txt)
# Where the example with the native tracer finds its module.
export ENVOY_DYNAMIC_MODULES_SEARCH_PATH=$root/dist
"$python" -B .make/mesh/authz.py "$(.make/extauthz.sh)" "$(.make/envoy.sh 1.36.4)" "$(.make/envoy.sh 1.40.0)"
