#!/usr/bin/env bash
# Tests test-mesh.sh where there is no Go: it says what was not tested, and fails only when STRICT=1 asks for all.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"
for program in bash cut dirname env mkdir mktemp rm sed sha256sum; do
    ln -s "$(command -v "$program")" "$work/bin/$program"
done

# run [VARIABLE=value]: prints what it said and its exit status.
run() {
    local status=0
    env -u COLLECTOR_BIN -u STRICT "$@" PATH="$work/bin" MESHTRACE_CACHE="$work/cache" \
        "$root/.make/test-mesh.sh" 2>&1 || status=$?
    printf 'status %s\n' "$status"
}

for strict in 0 1; do
    said=$(run STRICT=$strict)
    [[ $said == *'no Go on PATH'*'nothing of make test-mesh was run'*"status $strict" ]] || die "STRICT=$strict: $said"
done
echo 'test-mesh.sh: ok'
