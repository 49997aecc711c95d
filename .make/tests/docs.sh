#!/usr/bin/env bash
# What docs.py finds: a page that docs/README.md does not lead to, a link that leads nowhere, an anchor that is none. The
# site itself is made and checked by `make docs`.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 .make/docs.py gather "$work/book"
pages=$(find "$work/book/src" -name '*.md' ! -name SUMMARY.md | wc -l)
named=$(grep -c '^- \[' "$work/book/src/SUMMARY.md")
[[ $pages -eq $named && $pages -gt 40 ]] || die "$named of $pages pages are in the contents"

python3 - "$work" <<'PYTHON'
import pathlib, sys
sys.path.insert(0, ".make")
import docs
work = pathlib.Path(sys.argv[1])

root = work / "root"
(root / "docs").mkdir(parents=True)
(root / "README.md").write_text("# Home\n")
(root / "docs/README.md").write_text("# Pages\n\n## Start\n\n[a](a.md), [a again](a.md#x), [out](https://example.com)\n")
(root / "docs/a.md").write_text("# Page `a`\n")
text, errors = docs.summary(root)
assert not errors, errors
assert text.count("(docs/a.md)") == 1 and "- [Page a](docs/a.md)" in text and "# Start" in text, text
(root / "docs/lost.md").write_text("# Lost\n")
_, errors = docs.summary(root)
assert errors == ["docs/README.md does not lead to docs/lost.md"], errors

assert round(docs.contrast("#000000", "#ffffff")) == 21 and round(docs.contrast("#2b79a2", "hsl(226, 23%, 11%)"), 1) == 3.7

site = work / "site"
site.mkdir()
(site / "index.html").write_text('<h1 id="top">Home</h1><a href="a.html#b">a</a><a href="#top">up</a>')
(site / "a.html").write_text('<h2 id="b">B</h2><a href="https://example.com">out</a>')
assert docs.broken(site.resolve()) == ([], 2), docs.broken(site.resolve())
(site / "a.html").write_text('<h2 id="c">C</h2><img src="no.svg">')
errors, _ = docs.broken(site.resolve())
assert sorted(errors) == ["a.html: no.svg leads nowhere", "index.html: a.html#b names no heading"], errors
PYTHON
step "docs: $pages pages in the contents"
