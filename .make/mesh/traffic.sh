#!/usr/bin/env bash
# traffic.sh: examples/traffic in the oldest and the newest Envoy: canary, A/B, blue/green, faults, mirroring, two clusters,
# and TLS between them.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

command -v openssl >/dev/null || .make/apt.sh openssl
python=$(.make/python-env.sh .make/mesh/requirements.txt)
"$python" -B .make/mesh/traffic.py "$(.make/envoy.sh 1.36.4)" "$(.make/envoy.sh 1.40.0)"
