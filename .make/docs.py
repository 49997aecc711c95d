#!/usr/bin/env python3
"""The pages as a site.

docs.py gather <folder>  copies the pages, and what they lead to, into a book for mdBook, and writes its table of contents.
docs.py check <folder>   looks at the site that mdBook made: every page, every link, every anchor, the search, the contrast.

The contents are those of docs/README.md: a heading is a part, a link is a chapter. A page that it does not name is an
error, so that no page is lost.
"""

import colorsys
import html.parser
import json
import pathlib
import re
import shutil
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONTENTS = "docs/README.md"
# Folders whose pages are for people who read the code in them.
NOT_PAGES = {"target", "dist", "crates"}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def fail(errors):
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    sys.exit(1)


def pages(root):
    """The pages of the site, from the root."""
    found = []
    for path in sorted(root.rglob("*.md")):
        parts = path.relative_to(root).parts
        if not any(part.startswith(".") or part in NOT_PAGES for part in parts):
            found.append("/".join(parts))
    return found


def normal(page, path):
    """Where a link of this page leads, from the root."""
    parts = []
    for part in [*pathlib.PurePosixPath(page).parent.parts, *path.split("/")]:
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def in_site(page):
    """A page's place in the site: that of a folder is its index."""
    return re.sub(r"(^|/)README\.md(#|$)", r"\1index.md\2", page)


def title(root, page):
    """The first heading, without marks."""
    for line in (root / page).read_text().splitlines():
        if line.startswith("# "):
            return line[2:].replace("`", "")
    return None


def chapters(root):
    """What docs/README.md names: (None, a part's name) or (page, its title), in order."""
    listed = [("README.md", "meshtrace"), (CONTENTS, title(root, CONTENTS))]
    seen = {"README.md", CONTENTS}
    for line in (root / CONTENTS).read_text().splitlines():
        if line.startswith("## "):
            listed.append((None, line[3:]))
        for _, _, target in LINK.findall(line):
            if "://" in target:
                continue
            page = normal(CONTENTS, target.split("#")[0])
            if page and (root / page).is_dir():
                page += "/README.md"
            if page and page.endswith(".md") and page not in seen and (root / page).is_file():
                seen.add(page)
                listed.append((page, title(root, page)))
    return listed


def summary(root):
    """mdBook's table of contents, and what is wrong with it."""
    listed = chapters(root)
    named = {page for page, _ in listed}
    errors = [f"{CONTENTS} does not lead to {page}" for page in pages(root) if page not in named]
    errors += [f"{page} has no heading" for page, name in listed if page and not name]
    lines = ["# Contents", ""]
    for page, name in listed:
        if page is None:
            lines += ["", f"# {name}", ""]
        else:
            lines.append(f"- [{name}]({in_site(page)})")
    return "\n".join(lines) + "\n", errors


def rewritten(root, page, text, files):
    """The page with links that lead somewhere in a site; the files that it leads to go to `files`."""

    def link(match):
        image, words, target = match.groups()
        path, hash_, anchor = target.partition("#")
        if "://" in target or target.startswith(("#", "mailto:")):
            return match[0]
        there = normal(page, path)
        if there is None or not (root / there).exists():
            return match[0]
        if (root / there).is_dir():
            if (root / there / "README.md").is_file():
                return f"{image}[{words}]({path.rstrip('/')}/index.md{hash_}{anchor})"
            # A site has no list of a folder.
            return f"{words} (`{there}/`)"
        if there.endswith(".md") and there.split("/")[0] in NOT_PAGES:
            return f"{words} (`{there}`)"
        if not there.endswith(".md"):
            files.add(there)
        return f"{image}[{words}]({in_site(target)})"

    out, fenced = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        out.append(line if fenced else LINK.sub(link, line))
    return "\n".join(out) + "\n"


def gather(root, book):
    contents, errors = summary(root)
    if errors:
        fail(errors)
    files = set()
    shutil.rmtree(book, ignore_errors=True)
    for page in pages(root):
        target = book / "src" / in_site(page)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(rewritten(root, page, (root / page).read_text(), files))
    for file in files:
        target = book / "src" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / file, target)
    (book / "src/SUMMARY.md").write_text(contents)
    for file in (root / ".make/docs").iterdir():
        shutil.copyfile(file, book / file.name)


class Page(html.parser.HTMLParser):
    """The anchors and the links of a page."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value and tag != "base":
                self.links.append(value)


def broken(site):
    """The links of the site that lead nowhere, and how many there are."""
    read = {path: Page(path.read_text()) for path in site.rglob("*.html")}
    errors, count = [], 0
    for path, page in read.items():
        # The page of a link that is missing has no place of its own.
        if path.name in ("404.html", "toc.html"):
            continue
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            count += 1
            target = path
            if parts.path:
                target = (path.parent / urllib.parse.unquote(parts.path)).resolve()
            if target.is_dir():
                target /= "index.html"
            anchor = urllib.parse.unquote(parts.fragment)
            if not target.is_file():
                errors.append(f"{path.relative_to(site)}: {link} leads nowhere")
            elif anchor and target in read and anchor not in read[target].anchors:
                errors.append(f"{path.relative_to(site)}: {link} names no heading")
    return errors, count


def channels(colour):
    """Red, green and blue from 0 to 1 of `#rrggbb` or `hsl(…)`."""
    if colour.startswith("#"):
        return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    hue, saturation, lightness = map(float, re.findall(r"[0-9.]+", colour))
    return colorsys.hls_to_rgb(hue / 360, lightness / 100, saturation / 100)


def contrast(one, other):
    """That of WCAG 2, from 1 to 21."""
    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels(colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def faint(site):
    """What is hard to read in a theme of the site: less than 4.5 to 1, which WCAG asks for."""
    sheets = re.findall(r'<link rel="stylesheet"[^>]* href="([^"]+)"', (site / "index.html").read_text())
    style = "".join((site / sheet).read_text() for sheet in sheets)
    for theme in ("light", "navy"):
        colours = {}
        for selectors, block in re.findall(r"([^{}]+)\{([^{}]*)\}", re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)):
            if f".{theme}" in re.split(r"[,\s]+", selectors):
                colours.update(re.findall(r"(--[a-z-]+):\s*([^;]+);", block))
        for text, behind in (("--fg", "--bg"), ("--links", "--bg"), ("--sidebar-fg", "--sidebar-bg"), ("--sidebar-active", "--sidebar-bg")):
            ratio = contrast(colours[text], colours[behind])
            if ratio < 4.5:
                yield f"{theme}: {text} on {behind} has a contrast of {ratio:.1f}"


def check(root, site):
    site = site.resolve()
    errors, count = broken(site)
    for page in pages(root):
        made = site / in_site(page)
        if not made.with_suffix(".html").is_file():
            errors.append(f"{page} is not in the site")
    index = next(site.glob("searchindex*.js"), None)
    # What a reader types must lead somewhere: a code, a key, a filter.
    text = index.read_text() if index else ""
    errors += [f"the search does not know {word}" for word in ("MT012", "on_conflict", "route_sampling") if word not in text]
    errors += faint(site)
    if count < 500:
        errors.append(f"only {count} links were found")
    if errors:
        fail(errors)
    print(json.dumps({"pages": len(pages(root)), "links": count}))


def main():
    match sys.argv[1:]:
        case ["gather", folder]:
            gather(ROOT, pathlib.Path(folder))
        case ["check", folder]:
            check(ROOT, pathlib.Path(folder))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
