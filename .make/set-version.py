#!/usr/bin/env python3
"""set-version.py <version> [date]: the version in Cargo.toml, both lock files, and every file that names it; and the
CHANGELOG cut: what stands under Unreleased becomes this version's section, of this date (today, in UTC).
"""

import datetime
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# An image's tag, in a file to apply or on a page, a release, or a line of the log.
NAMED = ["istio-manifests", "crates/cli/src", "docs", "examples", "README.md"]
BEFORE = r"(meshtrace/\w+:|native:|oci/\w+:|VERSION=|\| `|status \| |trace_context )"


def main(version, date=None):
    if not re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?", version):
        raise SystemExit(f"error: {version} is no version, such as 0.2.0")
    manifest = ROOT / "Cargo.toml"
    text = manifest.read_text()
    head, _, rest = text.partition("[workspace.package]")
    before = re.search(r'^version = "(.*)"', rest, re.MULTILINE)[1]
    date = date or datetime.datetime.now(datetime.UTC).date().isoformat()
    if subprocess.run([sys.executable, ROOT / ".make/changelog.py", "cut", version, date]).returncode:
        raise SystemExit(1)
    if version == before:
        print(f"{version} is the version already: CHANGELOG.md alone was changed")
        return
    rest = rest.replace(f'version = "{before}"', f'version = "{version}"')
    manifest.write_text(head + "[workspace.package]" + rest)
    for lock in (manifest, ROOT / "crates/fuzz-targets/fuzz/Cargo.toml"):
        command = ["cargo", "metadata", "--quiet", "--offline", "--format-version", "1", "--manifest-path", lock]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    changed = 0
    for name in NAMED:
        path = ROOT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix not in (".yaml", ".rs", ".md"):
                continue
            old = file.read_text()
            new = re.sub(BEFORE + re.escape(before) + r"\b", rf"\g<1>{version}", old)
            if new != old:
                file.write_text(new)
                changed += 1
    print(f"{before} -> {version}: Cargo.toml, two lock files, CHANGELOG.md, {changed} other files")
    print("next: UPDATE_EXAMPLES=1 make test, which writes the generated files anew, and git diff")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
