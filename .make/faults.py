"""faults.py [--write]: compares docs/faults.md with the rows that the tests of this run wrote to target/promises/.

With --write it writes the page anew. Every row comes from a test that passed (test-envoy/support/src/promises.rs).
"""

import json
import pathlib
import sys

PAGE = pathlib.Path("docs/faults.md")
ROWS = pathlib.Path("target/promises")
HEAD = """# What is promised, and how it is tried

`make test` writes this page from its own tests: a row is a promise that a test held on real Envoys. Do not edit it; run
`make test`, then `make faults`. The figure is what the test asserts, on every machine.
"""


def cell(text):
    return text.replace("|", "\\|").replace("\n", " ").rstrip(".")


def page(rows):
    lines = [HEAD]
    for subject in sorted({row["subject"] for row in rows}):
        lines += [f"## {subject}", "", "| Promise | How it is tried | Figure |", "|---|---|---|"]
        of_subject = (row for row in rows if row["subject"] == subject)
        for row in sorted(of_subject, key=lambda row: row["promise"]):
            lines.append("| {} | {} | {} |".format(*(cell(row[key]) for key in ("promise", "tried", "figure"))))
        lines.append("")
    return "\n".join(lines)


def main():
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in ROWS.glob("*.json")]
    if not rows:
        sys.exit("error: no test wrote a row to target/promises/: run `make test` first")
    text = page(rows)
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(text, encoding="utf-8")
        print(f"{PAGE}: {len(rows)} rows")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        sys.exit(f"error: {PAGE} is not what the tests of this run held: run `make faults` and look at the difference")


main()
