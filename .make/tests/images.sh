#!/usr/bin/env bash
# The bills of materials beside the images are what SPDX's own tools accept, and not only parse.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

python=$(.make/python-env.sh .make/tests/requirements.txt)
.make/images.sh >/dev/null
found=0
for sbom in dist/oci/*.spdx.json; do
    quietly "$(dirname "$python")/pyspdxtools" --infile "$sbom" || die "$sbom is not valid SPDX"
    found=$((found + 1))
done
[[ $found -gt 0 ]] || die "no bill of materials in dist/oci"

broken=$(mktemp --suffix .spdx.json)
trap 'rm -f "$broken"' EXIT
sed 's/"SPDXRef-DOCUMENT",$/"SPDXRef-NOBODY",/' "dist/oci/trace_context.spdx.json" >"$broken"
if quietly "$(dirname "$python")/pyspdxtools" --infile "$broken" 2>/dev/null; then
    die "the validator accepts a document that describes nobody"
fi
step "SPDX: $found document(s) valid"
