#!/usr/bin/env bash
# docs.sh: the pages as a site with a search, dist/docs/, by mdBook. Every page must be in it, and every link lead somewhere.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

# Without the server that mdBook can be.
mdbook=$(.make/cargo-tool.sh mdbook 0.5.4 "two minutes" --no-default-features --features search)
book=target/docs-book
step "the pages: dist/docs/ (seconds)"
python3 .make/docs.py gather "$book"
rm -rf dist/docs
quietly "$mdbook/mdbook" build "$book" --dest-dir "$root/dist/docs"
# Files that mdBook puts there for itself.
rm -f dist/docs/.nojekyll
counts=$(python3 .make/docs.py check dist/docs)
step "dist/docs/index.html: $counts"
