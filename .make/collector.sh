#!/usr/bin/env bash
# collector.sh: makes sure that there is an OpenTelemetry Collector with what the examples and the tests use, and prints its
# path: $COLLECTOR_BIN where that is set, else one that is built from .make/collector/builder.yaml.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if [[ -n ${COLLECTOR_BIN:-} ]]; then
    [[ -x $COLLECTOR_BIN ]] || die "COLLECTOR_BIN is $COLLECTOR_BIN, which is not a program"
    printf '%s\n' "$COLLECTOR_BIN"
    exit 0
fi

recipe=$root/.make/collector/builder.yaml
builder=v$(sed -n 's/.*otlpreceiver v\(.*\)$/\1/p' "$recipe")
hash=$(sha256sum "$recipe" | cut -c1-16)
installed=$cache/otelcol/$hash/otelcol
if [[ ! -x $installed ]]; then
    command -v go >/dev/null || die "no Go, which the Collector is built with; or set COLLECTOR_BIN"
    step "OpenTelemetry Collector $builder from source (once, five to ten minutes on two cores)"
    mkdir -p "$cache/otelcol/$hash"
    work=$(mktemp -d "$cache/otelcol/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    # The machine has other things to do meanwhile.
    GOBIN=$work/bin quietly nice go install "go.opentelemetry.io/collector/cmd/builder@$builder" ||
        die "go cannot build the Collector's builder $builder"
    quietly nice "$work/bin/builder" --config "$recipe" --output-path "$work/out" ||
        die "the Collector cannot be built from $recipe"
    "$work/out/otelcol" components >/dev/null || die "the Collector does not run on this machine"
    mv "$work/out/otelcol" "$installed"
fi
printf '%s\n' "$installed"
