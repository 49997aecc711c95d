#!/usr/bin/env bash
# release.sh <version>: everything that a user installs, in dist/release/, from what `make build` and `make images` left in
# dist/. Two runs on one commit, with the same compilers, write the same bytes.
# release.sh --may <version>: only tells whether this version can be released from this tree.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

only_asked=
if [[ ${1:-} == --may ]]; then only_asked=1 && shift; fi
version=${1:-}
known=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
[[ -n $version ]] || die "which version? make release VERSION=$known"
[[ $version == "$known" ]] || die "Cargo.toml has version $known: .make/set-version.py $version sets it everywhere"
python3 .make/changelog.py notes "$version" >/dev/null || die "set it and cut the changelog: .make/set-version.py $version"
if [[ $only_asked ]]; then
    waiting=$(python3 .make/changelog.py notes Unreleased)
    [[ -z $waiting ]] || die "lines stand under Unreleased: .make/set-version.py $version puts them into the version's section"
    exit 0
fi

out=${RELEASE_OUT:-$root/dist/release}
rm -rf "$out"
mkdir -p "$out"
# The time of every file in an archive: the commit's, as images have it.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

# archive <name> <folder>: the folder as name.tar.gz, without owners and this machine's times.
archive() {
    tar --create --sort=name --format=ustar --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
        --mtime="@$SOURCE_DATE_EPOCH" --directory "$(dirname "$2")" "$(basename "$2")" | gzip -9 -n >"$out/$1.tar.gz"
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

step "modules"
for module in dist/*.wasm; do
    name=$(basename "$module" .wasm)
    cp "$module" "$out/$name-$version.wasm"
    cp "dist/oci/$name.spdx.json" "$out/$name-$version.spdx.json"
done
for processor in x86_64 aarch64; do
    module=dist/$processor/libmeshtrace.so
    if [[ ! -e $module ]]; then
        step "skipped: the native tracer for $processor, which make build had no toolchain for"
        continue
    fi
    platform=amd64
    [[ $processor == aarch64 ]] && platform=arm64
    cp "$module" "$out/libmeshtrace-$version-linux-$processor.so"
    cp "dist/oci/native-$platform.spdx.json" "$out/libmeshtrace-$version-linux-$processor.spdx.json"
done

# shellcheck disable=SC2086  # several words
for processor in ${RELEASE_PROCESSORS-x86_64 aarch64}; do
    step "the command line for $processor (the first time three minutes)"
    status=0
    folder=$(.make/zigbuild.sh "$processor" cli meshtrace-cli) || status=$?
    if [[ $status -eq 3 ]]; then
        step "skipped: no toolchain for $processor"
        continue
    fi
    [[ $status -eq 0 ]] || die "the command line was not compiled for $processor"
    name=meshtrace-$version-linux-$processor
    mkdir -p "$work/$name/completions"
    cp "$folder/meshtrace" LICENSE README.md CHANGELOG.md "$work/$name/"
    # What it prints is the same on every processor.
    for shell in bash zsh fish; do dist/meshtrace completions "$shell" >"$work/$name/completions/meshtrace.$shell"; done
    dist/meshtrace man >"$work/$name/meshtrace.1"
    archive "$name" "$work/$name"
    cargo run --quiet --locked --package meshtrace-images -- \
        sbom meshtrace-cli "$processor-unknown-linux-gnu" "$folder/meshtrace" >"$out/$name.spdx.json"
done

step "schemas, manifests, examples, images"
cp -r dist/schema "$work/meshtrace-$version-schemas"
archive "meshtrace-$version-schemas" "$work/meshtrace-$version-schemas"
python3 .make/manifests.py "${REGISTRY:-registry.example.com/meshtrace}" dist/oci "$work/meshtrace-$version-manifests" >/dev/null
archive "meshtrace-$version-manifests" "$work/meshtrace-$version-manifests"
# With the modules where the examples look for them.
mkdir -p "$work/meshtrace-$version-examples/dist"
cp -r examples "$work/meshtrace-$version-examples/"
cp dist/*.wasm "$work/meshtrace-$version-examples/dist/"
archive "meshtrace-$version-examples" "$work/meshtrace-$version-examples"
mkdir "$work/meshtrace-$version-oci"
for layout in dist/oci/*/; do cp -r "$layout" "$work/meshtrace-$version-oci/"; done
archive "meshtrace-$version-oci" "$work/meshtrace-$version-oci"

python3 .make/manifests.py --digests dist/oci >"$out/digests.txt"
python3 .make/changelog.py notes "$version" >"$out/RELEASE.md"
{
    printf '\n### Images\n\nTo pin, in `sha256` of a WasmPlugin or behind `@sha256:`.\n\n```text\n'
    cat "$out/digests.txt"
    printf '```\n'
} >>"$out/RELEASE.md"
(cd "$out" && sha256sum -- * >"$work/sums" && mv "$work/sums" SHA256SUMS && chmod 644 SHA256SUMS)
step "dist/release/: $(find "$out" -type f | wc -l) files, $(du -sh "$out" | cut -f1)"
