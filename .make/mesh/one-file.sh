#!/usr/bin/env bash
# one-file.sh: examples/one-file as kustomize renders it, in real Envoys: which requests are reported, and with what.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

python=$(.make/python-env.sh .make/mesh/requirements.txt)
"$python" -B .make/mesh/one-file.py "$(.make/kustomize.sh)" "$(.make/envoy.sh)"
