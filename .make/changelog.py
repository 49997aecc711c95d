#!/usr/bin/env python3
"""changelog.py notes <version>        prints the section of CHANGELOG.md of this version
changelog.py cut <version> <date>   makes what stands under Unreleased the section of this version
"""

import pathlib
import re
import sys

FILE = pathlib.Path(__file__).resolve().parent.parent / "CHANGELOG.md"
UNRELEASED = "## [Unreleased]"


def section(text, version):
    """The section's text without its heading, or None."""
    parts = re.split(r"^(?=## \[)", text, flags=re.MULTILINE)
    for part in parts:
        heading, _, rest = part.partition("\n")
        if heading.startswith(f"## [{version}]"):
            return rest.strip() + "\n"
    return None


def cut(text, version, date):
    if section(text, version) is not None:
        raise SystemExit(f"error: CHANGELOG.md has a section {version} already")
    if not (section(text, "Unreleased") or "").strip():
        raise SystemExit("error: nothing stands under Unreleased")
    return text.replace(UNRELEASED + "\n", f"{UNRELEASED}\n\n## [{version}] - {date}\n", 1)


def main():
    match sys.argv[1:]:
        case ["notes", version]:
            found = section(FILE.read_text(), version)
            if found is None:
                raise SystemExit(f"error: CHANGELOG.md has no section {version}")
            print(found, end="")
        case ["cut", version, date]:
            FILE.write_text(cut(FILE.read_text(), version, date))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
