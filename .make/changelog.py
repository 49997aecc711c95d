#!/usr/bin/env python3
"""changelog.py notes <version>        prints the section of CHANGELOG.md of this version
changelog.py cut <version> <date>   makes what stands under Unreleased the section of this version; where that is there
                                    and was never tagged, what stands under Unreleased is put into it
"""

import pathlib
import re
import subprocess
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


def kinds(text):
    """What stands under each heading of a section (Added, Changed, …), in their order."""
    head, *parts = re.split(r"^### ", text, flags=re.MULTILINE)
    found = {"": head.strip()} if head.strip() else {}
    return found | {kind: lines.strip() for kind, _, lines in (part.partition("\n") for part in parts)}


def joined(new, old):
    """One section of two: under each heading the newer lines come first."""
    new, old = kinds(new), kinds(old)
    whole = {kind: "\n".join(part[kind] for part in (new, old) if kind in part) for kind in {**old, **new}}
    return "\n\n".join(f"### {kind}\n\n{lines}" if kind else lines for kind, lines in whole.items()) + "\n"


def cut(text, version, date):
    unreleased = section(text, "Unreleased") or ""
    if not unreleased.strip():
        raise SystemExit("error: nothing stands under Unreleased")
    heading = f"{UNRELEASED}\n\n## [{version}] - {date}\n"
    before = section(text, version)
    if before is None:
        return text.replace(UNRELEASED + "\n", heading, 1)
    if subprocess.run(["git", "tag", "--list", f"v{version}"], cwd=FILE.parent, capture_output=True).stdout:
        raise SystemExit(f"error: {version} is tagged, so it stays as it is: take the next version")
    parts = re.split(r"^(?=## \[)", text, flags=re.MULTILINE)
    at = next(i for i, part in enumerate(parts) if part.startswith(f"## [{version}]"))
    parts[at] = f"## [{version}] - {date}\n\n{joined(unreleased, before)}" + ("\n" if parts[at + 1 :] else "")
    empty = next(i for i, part in enumerate(parts) if part.startswith(UNRELEASED))
    parts[empty] = UNRELEASED + "\n\n"
    return "".join(parts)


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
