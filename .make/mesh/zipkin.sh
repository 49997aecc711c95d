#!/usr/bin/env bash
# zipkin.sh: a mesh on B3 (Envoy's Zipkin tracer) around applications on W3C (OpenTelemetry's SDK, no configuration) reports to
# a real Zipkin, and to a real Jaeger where the cache has one: three traces without the filter, one with what `meshtrace
# render` writes.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR/.. source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

version=3.5.1
jar=$cache/zipkin/zipkin-server-$version-exec.jar
command -v java >/dev/null || .make/apt.sh openjdk-17-jre-headless
if [[ ! -f $jar ]]; then
    command -v mvn >/dev/null || .make/apt.sh maven
    step "Zipkin $version (once, 131 MB)"
    mkdir -p "$cache/zipkin"
    work=$(mktemp -d "$cache/zipkin/download.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    quietly nice mvn -q -B dependency:copy -Dartifact="io.zipkin:zipkin-server:$version:jar:exec" \
        -DoutputDirectory="$work" || die "mvn cannot fetch Zipkin $version"
    mv "$work/zipkin-server-$version-exec.jar" "$jar"
fi
[[ -x dist/meshtrace ]] || die "no dist/meshtrace: run make build"
jaeger=$(.make/jaeger.sh --cached)
if [[ -z $jaeger ]]; then step "no Jaeger in the cache: Zipkin alone is asked (JAEGER=1 .make/mesh/jaeger.sh compiles it)"; fi
python=$(.make/python-env.sh test-envoy/demo/apps/requirements.txt)
envoys="1.36=$(.make/envoy.sh 1.36.4),1.40=$(.make/envoy.sh 1.40.0)"
"$python" -B .make/mesh/zipkin.py "$jar" "$envoys" ${jaeger:+"$jaeger"}
