#!/usr/bin/env python3
"""manifests.py <host:port/namespace> <layouts> <out> [tag]: istio-manifests/ with this registry and the digests of these
images, in `out`. The digests are those that `make push` pushes: of the same layouts.
manifests.py --digests <layouts>: prints the digest of each image.

Each file that names an image of ours gets the registry, the tag, and where it pins a digest, that of the image.
"""

import json
import pathlib
import re
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLACEHOLDER = "registry.example.com/meshtrace"
IMAGE = re.compile(re.escape(PLACEHOLDER) + r"/(\w+):([\w.-]+)")
ZEROS = "0" * 64
# For the tests and for people who change the manifests.
LEFT_OUT = {"verify"}


def digests(layouts):
    """The digest of each image, by its name and tag."""
    found = {}
    for index in sorted(layouts.glob("*/index.json")):
        for manifest in json.loads(index.read_text())["manifests"]:
            tag = manifest["annotations"]["org.opencontainers.image.ref.name"]
            found[index.parent.name, tag] = manifest["digest"].removeprefix("sha256:")
    return found


def filled(text, registry, tag, known):
    """The file with this registry; a pinned digest is that of the image named nearest to it in the same resource."""
    lines = text.splitlines(keepends=True)
    named, resource = [], 0
    places = []
    for number, line in enumerate(lines):
        if line.startswith("---"):
            resource += 1
        places.append(resource)
        match = IMAGE.search(line)
        if match:
            if (match[1], match[2]) not in known:
                raise SystemExit(f"error: there is no image {match[1]}:{match[2]}; is dist/oci/ of another version?")
            named.append((number, resource, (match[1], match[2])))
            lines[number] = line.replace(match[0], f"{registry}/{match[1]}:{tag or match[2]}")
    for number, line in enumerate(lines):
        if ZEROS in line:
            near = [(abs(at - number), image) for at, where, image in named if where == places[number]]
            if not near:
                raise SystemExit(f"error: a digest without an image: {line.strip()}")
            lines[number] = line.replace(ZEROS, known[min(near)[1]])
    return "".join(lines)


def main(registry, layouts, out, tag=None):
    known = digests(pathlib.Path(layouts))
    if not known:
        raise SystemExit(f"error: {layouts} has no images: run make images")
    out = pathlib.Path(out)
    shutil.rmtree(out, ignore_errors=True)
    source = ROOT / "istio-manifests"
    for path in sorted(source.rglob("*")):
        below = path.relative_to(source)
        if not path.is_file() or below.parts[0] in LEFT_OUT:
            continue
        target = out / below
        target.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text()
        target.write_text(filled(text, registry.rstrip("/"), tag, known) if path.suffix == ".yaml" else text)
    print(out)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--digests"] and len(sys.argv) == 3:
        for (name, tag), digest in sorted(digests(pathlib.Path(sys.argv[2])).items()):
            print(f"{name}:{tag}@sha256:{digest}")
        sys.exit()
    if len(sys.argv) not in (4, 5):
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
