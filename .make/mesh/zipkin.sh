#!/usr/bin/env bash
# zipkin.sh: a mesh on B3 (Envoy's Zipkin tracer) around applications on W3C (OpenTelemetry's SDK, no configuration) reports to
# a real Zipkin: several traces without the filter, one with what `meshtrace render` writes.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

version=3.5.1
jar=$cache/zipkin/zipkin-server-$version-exec.jar
for program in java mvn; do
    command -v "$program" >/dev/null && continue
    missing="no $program on PATH: nothing was run with a real Zipkin"
    if [[ ${STRICT:-} == 1 ]]; then die "$missing"; fi
    step "$missing"
    exit 0
done
if [[ ! -f $jar ]]; then
    step "Zipkin $version (once, 131 MB)"
    mkdir -p "$cache/zipkin"
    work=$(mktemp -d "$cache/zipkin/download.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    quietly nice mvn -q -B dependency:copy -Dartifact="io.zipkin:zipkin-server:$version:jar:exec" \
        -DoutputDirectory="$work" || die "mvn cannot fetch Zipkin $version"
    mv "$work/zipkin-server-$version-exec.jar" "$jar"
fi
python=$(.make/python-env.sh test-envoy/demo/apps/requirements.txt)
cargo build --quiet --locked --package meshtrace-cli
programs=$root/${CARGO_TARGET_DIR:-target}/debug
[[ ${CARGO_TARGET_DIR:-} == /* ]] && programs=$CARGO_TARGET_DIR/debug
for envoy in 1.36.4 1.40.0; do
    "$python" -B .make/mesh/zipkin.py "$jar" "$(.make/envoy.sh "$envoy")" "${envoy%.*}" "$programs/meshtrace"
done
