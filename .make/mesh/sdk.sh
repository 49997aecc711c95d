#!/usr/bin/env bash
# sdk.sh: the services of examples/sdk, in Go, Java, Node and Python with OpenTelemetry's SDK, behind real Envoys: one trace with
# the filter and with the native tracer, two where a service copies no header, and `meshtrace doctor` names that service.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

[[ -x dist/meshtrace ]] || die "no dist/meshtrace: run make build"
export ENVOY_DYNAMIC_MODULES_SEARCH_PATH=$root/dist
go=$(.make/sdk.sh go)
java=$(.make/sdk.sh java)
node=$(.make/sdk.sh node)
flask=$(dirname "$(.make/sdk.sh python)")
python=$(.make/python-env.sh .make/mesh/requirements.txt)
"$python" -B .make/mesh/sdk.py "$go" "$java" "$node" "$flask" "$(.make/envoy.sh 1.36.4)" "$(.make/envoy.sh 1.40.0)"
