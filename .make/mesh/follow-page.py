#!/usr/bin/env python3
"""follow-page.py <README.md>: runs each command of the page's console blocks and compares what it prints.

Ids that a proxy makes differ from run to run: a word of 16 or 32 hexadecimal digits, or a UUID, that is not in the
command stands for itself only, in the order of its appearance.
"""

import re
import subprocess
import sys


def commands(page):
    """The lines after "$ ", continued after a backslash, and the output below each."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        continued = False
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append([line[2:], []])
            elif continued:
                found[-1][0] += "\n" + line
            else:
                found[-1][1].append(line)
                continue
            continued = line.endswith("\\")
    return found


def named(output, command):
    seen = []

    def name(match):
        word = match.group()
        if word in command:
            return word
        if word not in seen:
            seen.append(word)
        return f"<new id {seen.index(word) + 1}>"

    output = re.sub(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", name, output)
    output = re.sub(r"\b(?:[0-9a-f]{32}|[0-9a-f]{16})\b", name, output)
    return "\n".join(line.rstrip() for line in output.strip().splitlines())


def main():
    with open(sys.argv[1], encoding="utf-8") as page:
        found = commands(page.read())
    if len(found) < 4:
        sys.exit(f"{sys.argv[1]}: only {len(found)} commands")
    for command, output in found:
        ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
        wanted, got = named("\n".join(output), command), named(ran.stdout, command)
        if ran.returncode != 0 or wanted != got:
            sys.exit(f"{sys.argv[1]}: $ {command}\nprinted\n{got}\nand not\n{wanted}\n{ran.stderr}")
    print(f"{sys.argv[1]}: {len(found)} commands")


main()
