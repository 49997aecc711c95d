#!/usr/bin/env bash
# sdk.sh go|java|node|python: makes sure that the service of examples/sdk in this language is built, and prints its folder; for
# Python the path of its interpreter.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

language=${1:?usage: sdk.sh go|java|node|python}
sources=$root/examples/sdk/$language
[[ -d $sources ]] || die "no such service: examples/sdk/$language"

if [[ $language == python ]]; then
    # The environment of the demo, which has the same packages: what is there needs no download.
    demo=$root/test-envoy/demo/apps/requirements.txt
    while read -r package; do
        if [[ $package == *==* ]]; then grep -qx "$package" "$demo" || die "$package is not in ${demo#"$root"/}"; fi
    done <"$sources/requirements.txt"
    exec "$root/.make/python-env.sh" "$demo"
fi

hash=$(cd "$sources" && sha256sum -- * | sha256sum | cut -c1-16)
installed=$cache/sdk/$language-$hash
if [[ ! -e $installed ]]; then
    case $language in
        go) command -v go >/dev/null || die "no Go on PATH, which examples/sdk/go is built with" ;;
        java) { command -v mvn && command -v javac; } >/dev/null || "$root/.make/apt.sh" maven openjdk-17-jdk-headless ;;
        node) { command -v node && command -v npm; } >/dev/null || "$root/.make/apt.sh" nodejs npm ;;
    esac
    step "examples/sdk/$language with OpenTelemetry's SDK (once, half a minute)"
    mkdir -p "$cache/sdk"
    work=$(mktemp -d "$cache/sdk/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    cp -r "$sources/." "$work"
    cd "$work"
    case $language in
        go) quietly nice go build -trimpath -o service . ;;
        java)
            version=$(sed -n '/javaagent<\/artifactId>/{n;s/.*>\(.*\)<.*/\1/p}' pom.xml)
            quietly nice mvn -q -B dependency:copy -DoutputDirectory=. -Dmdep.stripVersion \
                -Dartifact="io.opentelemetry.javaagent:opentelemetry-javaagent:$version" &&
                quietly nice javac Service.java
            ;;
        node) quietly nice npm ci --ignore-scripts --no-audit --no-fund ;;
    esac || die "examples/sdk/$language cannot be built"
    # Another run may have been faster.
    [[ -e $installed ]] || mv "$work" "$installed"
fi
printf '%s\n' "$installed"
