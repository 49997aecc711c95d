#!/usr/bin/env bash
# topologies.sh: the Collectors of examples/collector: beside an application, on a node, a gateway with tail sampling, TLS.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

command -v openssl >/dev/null || .make/apt.sh openssl
python=$(.make/python-env.sh .make/mesh/requirements.txt)
"$python" -B .make/mesh/topologies.py "$(.make/collector.sh)" "$(.make/kustomize.sh)" "$(.make/envoy.sh)"
