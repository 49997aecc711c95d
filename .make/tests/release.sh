#!/usr/bin/env bash
# What `make release` leaves: every file whole and named in the checksums, the bills of materials of these very files, the
# digests of these very images in the manifests, and the same bytes a second time. The command line, which takes minutes, is
# in it where RELEASE_PROCESSORS names a processor; without it here, as it is the same step for each.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export RELEASE_PROCESSORS=${RELEASE_PROCESSORS-}

# refused <what it says> <argument…>
refused() {
    local said
    if said=$(RELEASE_OUT=$work/refused .make/release.sh "${@:2}" 2>&1); then die "release.sh ${*:2} was not refused"; fi
    [[ $said == *"$1"* ]] || die "release.sh ${*:2}: $said"
}
refused "which version?"
refused "set-version.py 9.9.9" 9.9.9
refused "which version?" --may
# make asks before it builds.
says() {
    local said
    if said=$(make --no-print-directory "${@:2}" 2>&1); then die "make ${*:2} was not refused"; fi
    [[ $said == *"$1"* && $said != *'==>'* ]] || die "make ${*:2}: $said"
}
says "which version? make release VERSION=$version" release
says "set-version.py 9.9.9" release VERSION=9.9.9
says "which registry? make push REGISTRY=" push
says "which registry? make push manifests REGISTRY=" push manifests

.make/images.sh >/dev/null
RELEASE_OUT=$work/one .make/release.sh "$version" 2>/dev/null
RELEASE_OUT=$work/two .make/release.sh "$version" 2>/dev/null
cmp "$work/one/SHA256SUMS" "$work/two/SHA256SUMS" || die "a second run makes other files"

cd "$work/one"
sha256sum --quiet --check SHA256SUMS
[[ $(find . -type f ! -name SHA256SUMS | wc -l) -eq $(wc -l <SHA256SUMS) ]] || die "SHA256SUMS does not name every file"
for filter in access_log_trace mesh_tracing route_sampling span_attributes trace_context; do
    cmp "$filter-$version.wasm" "$root/dist/$filter.wasm"
    grep -q "^$filter:$version@sha256:[0-9a-f]\{64\}$" digests.txt || die "digests.txt lacks $filter"
done
for sbom in *.spdx.json; do
    thing=${sbom%.spdx.json}
    for file in "$thing.wasm" "$thing.so"; do
        [[ ! -e $file ]] || grep -q "$(sha256sum "$file" | cut -d' ' -f1)" "$sbom" || die "$sbom is of another file"
    done
done
# The command line's is made from the file that make build left.
(cd "$root" && cargo run --quiet --locked --package meshtrace-images -- \
    sbom meshtrace-cli x86_64-unknown-linux-gnu dist/meshtrace) >"$work/cli.spdx.json"
python3 - "$work/cli.spdx.json" "$(sha256sum "$root/dist/meshtrace" | cut -d' ' -f1)" <<'PYTHON'
import json, sys
bill = json.load(open(sys.argv[1], encoding="utf-8"))
packages = {package["name"]: package for package in bill["packages"]}
assert packages["meshtrace-cli"]["checksums"][0]["checksumValue"] == sys.argv[2], "of another file"
assert {"clap", "serde_json"} <= packages.keys() and "tempfile" not in packages, packages.keys()
PYTHON
grep -q '^### Images' RELEASE.md && grep -qF "$(head -n 1 digests.txt)" RELEASE.md || die "RELEASE.md lacks the digests"

for archive in *.tar.gz; do
    owners=$(tar --list --verbose --numeric-owner --file "$archive" | awk '{print $2}' | sort -u)
    [[ $owners == 0/0 ]] || die "$archive has owners: $owners"
done
tar --extract --file "meshtrace-$version-manifests.tar.gz"
manifests=meshtrace-$version-manifests
if grep -rn "$(printf '0%.0s' {1..64})" "$manifests" --include='*.yaml' | grep -v '^[^:]*:[0-9]*:#'; then
    die "a manifest without a digest"
fi
digest=$(sed -n "s/^mesh_tracing:$version@sha256://p" digests.txt)
grep -q "sha256: \"$digest\"" "$manifests/wasmplugin/mesh-tracing.yaml" || die "mesh-tracing.yaml has another digest"
# holds <archive> <the end of a name in it>
holds() {
    local names
    names=$(tar --list --file "meshtrace-$version-$1.tar.gz")
    grep -q "$2$" <<<"$names" || die "the archive of $1 has no $2"
}
holds oci /mesh_tracing/index.json
holds oci /native/index.json
holds examples /examples/walkthrough/compose.yaml
holds examples /dist/trace_context.wasm
holds schemas /mesh_tracing.json

# The workflow of the forge runs what there is in make.
cd "$root"
python3 - <<'PYTHON'
import pathlib, re
workflow = pathlib.Path(".github/workflows/release.yml").read_text()
makefile = pathlib.Path("Makefile").read_text()
targets = re.findall(r"^\s+(?:run: )?make ([a-z-]+)", workflow, re.MULTILINE)
assert {"lint", "test", "release", "push", "docs"} <= set(targets), targets
for target in targets:
    assert f"\n{target}:" in makefile, target
assert "\t" not in workflow
PYTHON

# The changelog: a cut moves what was under Unreleased, once.
cd "$work"
mkdir -p cut/.make
cp "$root/.make/changelog.py" cut/.make/
printf '# Changelog\n\n## [Unreleased]\n\n### Added\n\n- One.\n' >cut/CHANGELOG.md
python3 cut/.make/changelog.py cut 1.2.3 2026-01-31
[[ $(<cut/CHANGELOG.md) == $'# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-31\n\n### Added\n\n- One.' ]] ||
    die "$(<cut/CHANGELOG.md)"
[[ $(python3 cut/.make/changelog.py notes 1.2.3) == $'### Added\n\n- One.' ]] || die "the notes of 1.2.3"
if python3 cut/.make/changelog.py cut 1.2.4 2026-02-01 2>/dev/null; then die "an empty section was cut"; fi
# A version that was cut and never tagged takes what came after.
printf '# Changelog\n\n## [Unreleased]\n\n### Added\n\n- Two.\n\n### Fixed\n\n- Three.\n\n## [1.2.3] - 2026-01-31\n\n### Added\n\n- One.\n\n## [1.2.2] - 2026-01-01\n\nOld.\n' >cut/CHANGELOG.md
python3 cut/.make/changelog.py cut 1.2.3 2026-02-01
[[ $(<cut/CHANGELOG.md) == $'# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-02-01\n\n### Added\n\n- Two.\n- One.\n\n### Fixed\n\n- Three.\n\n## [1.2.2] - 2026-01-01\n\nOld.' ]] ||
    die "$(<cut/CHANGELOG.md)"
printf '\n' >>cut/CHANGELOG.md
sed -i 's/^## \[Unreleased\]$/&\n\n- Four./' cut/CHANGELOG.md
git init --quiet cut
git -C cut -c user.name=a -c user.email=a@b commit --quiet --allow-empty -m 'Release 1.2.3'
git -C cut tag v1.2.3
if python3 cut/.make/changelog.py cut 1.2.3 2026-02-02 2>/dev/null; then die "a tagged version was cut again"; fi
step "release: $(wc -l <"$work/one/SHA256SUMS") files, twice the same"
