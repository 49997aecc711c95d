"""one-file-filters.py <kustomize> <CRDs>: the files of examples/one-file/filters, and every overlay of examples/one-file.

The files are what `meshtrace render` prints for each filter, kind and place; with UPDATE_EXAMPLES=1 they are written. Every
overlay is rendered with a registry and digests of its own, which must be in it, Istio's CRDs must know every field, and
`meshtrace check` must find nothing.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import yaml
from example import check

ROOT = pathlib.Path("examples/one-file")
# Each filter, and the proxies' tracer that it stands beside.
FILTERS = {
    "trace-context": "zipkin-with-w3c",
    "span-attributes": "opentelemetry",
    "access-log-trace": "opentelemetry",
    "route-sampling": "opentelemetry",
}
# Each kind, the version that it is rendered for, and the versions that take it.
KINDS = {
    "wasmplugin": ("WasmPlugin", "1.29", "1.29 to 1.31"),
    "trafficextension": ("TrafficExtension", "1.31", "1.30 to 1.31"),
}
VERSIONS = ["1.28", "1.29", "1.30", "1.31"]
PLACES = {
    "namespace": ("sidecar", "Every sidecar of the namespace `shop`"),
    "workload": ("sidecar", "One workload of the namespace `shop`, by its label"),
    "gateway": ("gateway", "Istio's ingress gateway"),
    "waypoint": ("waypoint", "The waypoint `waypoint` of the namespace `shop`"),
}
VALUES = {"DEPLOYMENT_ENVIRONMENT": "production", "CLUSTER_NAME": "cluster-1"}


def places(name):
    # A waypoint takes no EnvoyFilter, and this filter needs one.
    return [place for place in PLACES if (name, place) != ("route-sampling", "waypoint")]


def rendered(name, role, version, versions):
    """What `meshtrace render` prints, with the values of variables, and without what Istio's defaults say."""
    folder = ROOT / "filters" / name
    config = folder / "config.yaml"
    if role == "gateway" and (folder / "config-gateway.yaml").exists():
        config = folder / "config-gateway.yaml"
    command = ["dist/meshtrace", "render", name, *([str(config)] if config.exists() else [])]
    command += ["--istio", version, "--tracer", FILTERS[name], "--for", role, "--name", name]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    for variable, value in VALUES.items():
        text = text.replace(f"- name: {variable}\n      valueFrom: HOST", f"- name: {variable}\n      value: {value}")
        text = text.replace(f"- name: {variable}\n        valueFrom: HOST", f"- name: {variable}\n        value: {value}")
    check("valueFrom" not in text, f"{name}: a variable without a value")
    text = text.replace("  # --sha256", "").replace("  # your registry: --url", "")
    text = re.sub(r"\A# Istio: .*\n", f"# Istio: {versions}\n", text)
    # The kustomization puts it back: module/ finds a plugin by its name.
    text = re.sub(r"(?m)^(  name: .*)-(gateway|waypoint)$", r"\1", text)
    head = "# Written by: UPDATE_EXAMPLES=1 .make/mesh/one-file.sh\n"
    return head + text.rstrip("\n") + "\n"


SELECTOR = """patches:
- target: {kind: WasmPlugin|TrafficExtension|Telemetry}
  patch: |
    - {op: add, path: /spec/selector, value: {matchLabels: {app: payments}}}
"""
OF_ENVOY_FILTERS = """- target: {kind: EnvoyFilter}
  patch: |
    - {op: add, path: /spec/workloadSelector, value: {labels: {app: payments}}}
"""
# What is rendered for a label, for all.
WITHOUT = """patches:
- target: {kind: WasmPlugin|TrafficExtension|Telemetry}
  patch: |
    - {op: remove, path: /spec/selector}
- target: {kind: EnvoyFilter}
  patch: |
    - {op: remove, path: /spec/workloadSelector}
"""


def kustomization(name, kind, place, has_envoy_filter):
    what = PLACES[place][1]
    lines = [
        f"# {what}: kubectl apply -k filters/{name}/{kind}/{place}",
        "# Written by: UPDATE_EXAMPLES=1 .make/mesh/one-file.sh",
        "apiVersion: kustomize.config.k8s.io/v1beta1",
        "kind: Kustomization",
        f"namespace: {'istio-system' if place == 'gateway' else 'shop'}",
    ]
    if place == "workload":
        lines += ["nameSuffix: -payments", "resources:", "- ../namespace", SELECTOR.rstrip("\n")]
        # What is rendered for a label has none in a namespace.
        lines += [OF_ENVOY_FILTERS.rstrip("\n")] if has_envoy_filter else []
    else:
        lines += [f"nameSuffix: -{place}"] if place != "namespace" else []
        lines += ["resources:", "- resources.yaml", "components:", "- ../../../../module"]
        lines += [WITHOUT.rstrip("\n")] if place == "namespace" and has_envoy_filter else []
    return "\n".join(lines) + "\n"


def files():
    for name in FILTERS:
        for kind, (_, version, versions) in KINDS.items():
            for place in places(name):
                folder = ROOT / "filters" / name / kind / place
                text = rendered(name, PLACES[place][0], version, versions)
                yield folder / "kustomization.yaml", kustomization(name, kind, place, "kind: EnvoyFilter" in text)
                if place != "workload":
                    yield folder / "resources.yaml", text


def compare(expected):
    if os.environ.get("UPDATE_EXAMPLES") == "1":
        for path, text in expected.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    found = {path for path in (ROOT / "filters").rglob("*.yaml") if not path.name.startswith("config")}
    stale = [path for path in found | expected.keys() if path not in expected or path not in found]
    stale += [path for path in found & expected.keys() if path.read_text() != expected[path]]
    check(not stale, f"other than `meshtrace render` prints (UPDATE_EXAMPLES=1 writes them): {sorted(map(str, stale))}")


def overlays():
    """Every overlay: its folder, the module, the kind, the place."""
    for kind in KINDS:
        for place in PLACES:
            yield ROOT / "overlays" / kind / place, "mesh-tracing", kind, place
        for name in FILTERS:
            for place in places(name):
                yield ROOT / "filters" / name / kind / place, name, kind, place


def schemas(path):
    """The schema of each kind and version."""
    found = {}
    for crd in yaml.load_all(pathlib.Path(path).read_text(), yaml.CSafeLoader):
        for version in crd["spec"]["versions"] if crd else []:
            api = f"{crd['spec']['group']}/{version['name']}"
            found[api, crd["spec"]["names"]["kind"]] = version["schema"]["openAPIV3Schema"]
    return found


TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}


def refused(schema, value, path):
    """What an API server with the schema would refuse, or drop: fields that it does not know."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    if "type" in schema and not isinstance(value, TYPES[schema["type"]]):
        yield f"{path} is no {schema['type']}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value} is none of {schema['enum']}"
    elif isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{path}: {value} is not {schema['pattern']}"
    elif isinstance(value, list):
        for entry in value:
            yield from refused(schema["items"], entry, f"{path}[]")
    elif isinstance(value, dict):
        yield from (f"{path}.{key} is missing" for key in schema.get("required", []) if key not in value)
        for key, entry in value.items():
            below = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            if isinstance(below, dict):
                yield from refused(below, entry, f"{path}.{key}")
            else:
                yield f"{path}.{key} is unknown"


def judge(folder, name, kind, place, copy, kustomize, digests, crds):
    command = [kustomize, "build", str(copy / folder.relative_to(ROOT))]
    built = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    check(built.returncode == 0, f"{folder}: {built.stdout}")
    resources = list(yaml.safe_load_all(built.stdout))
    module, resource_kind = name.replace("-", "_"), KINDS[kind][0]
    plugins = [resource for resource in resources if resource["kind"] in ("WasmPlugin", "TrafficExtension")]
    check(len(plugins) == 1 and plugins[0]["kind"] == resource_kind, f"{folder}: plugins {plugins}")
    wasm = plugins[0]["spec"].get("wasm", plugins[0]["spec"])
    check(wasm["url"] == f"oci://registry.internal/tracing/{module}:9.9.9", f"{folder}: {wasm['url']}")
    check(wasm["sha256"] == digests[module], f"{folder}: the digest is {wasm['sha256']}")
    check(not any(resource["kind"] == "ConfigMap" for resource in resources), f"{folder}: the list of modules is applied")
    for resource in resources:
        where = f"{folder}: {resource['kind']}"
        namespace = "istio-system" if place == "gateway" else "shop"
        check(resource["metadata"]["namespace"] == namespace, f"{where}: {resource['metadata']}")
        spec = resource["spec"]
        schema = crds[resource["apiVersion"], resource["kind"]]["properties"]["spec"]
        said = list(refused(schema, spec, "spec"))
        check(not said, f"{where}: {said}")
        check(list(refused(schema, {**spec, "unheardOf": 1}, "spec")), f"{where}: a field that does not exist is accepted")
        key, labels = ("workloadSelector", "labels") if resource["kind"] == "EnvoyFilter" else ("selector", "matchLabels")
        expected = {"workload": {"app": "payments"}, "gateway": {"istio": "ingressgateway"}}.get(place)
        check((spec.get(key) or {}).get(labels) == expected, f"{where}: {key} {spec.get(key)}")
        refs = [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "waypoint"}]
        check(spec.get("targetRefs") == (refs if place == "waypoint" else None), f"{where}: {spec.get('targetRefs')}")
    first, last = (VERSIONS.index(version) for version in KINDS[kind][2].split(" to "))
    if (name, kind) == ("mesh-tracing", "wasmplugin"):
        first = 0
    for version in VERSIONS[first : last + 1]:
        command = ["dist/meshtrace", "check", "--istio", version, "-"]
        said = subprocess.run(command, input=built.stdout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        check(said.stdout.strip() == "no findings in 1 file", f"{folder}, Istio {version}: {said.stdout}")
    return {(resource["kind"], resource["metadata"]["namespace"], resource["metadata"]["name"]) for resource in resources}


def together(copy, kustomize):
    """All overlays of a kind in one kustomization of a user's own, with a namespace, a name and labels of its own."""
    for kind, (resource_kind, *_) in KINDS.items():
        own = copy / f"own-{kind}"
        own.mkdir()
        folders = [folder.relative_to(ROOT) for folder, _, of_kind, _ in overlays() if of_kind == kind]
        parts = {
            "namespace": "team-a",
            "nameSuffix": "-v2",
            "labels": [{"pairs": {"app.kubernetes.io/part-of": "shop"}}],
            "resources": [f"../{folder}" for folder in folders],
        }
        (own / "kustomization.yaml").write_text(yaml.safe_dump(parts))
        built = subprocess.run([kustomize, "build", str(own)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        check(built.returncode == 0, f"{kind}, all together: {built.stdout}")
        made = list(yaml.safe_load_all(built.stdout))
        plugins = [resource for resource in made if resource["kind"] == resource_kind]
        check(len(plugins) == len(folders), f"{kind}, all together: {len(plugins)} plugins of {len(folders)} overlays")
        for resource in made:
            metadata = resource["metadata"]
            check(metadata["namespace"] == "team-a" and metadata["name"].endswith("-v2"), f"{metadata}")
            check(metadata["labels"] == {"app.kubernetes.io/part-of": "shop"}, f"{metadata}")
            wasm = resource["spec"].get("wasm", resource["spec"])
            check("url" not in wasm or wasm["url"].startswith("oci://registry.internal/tracing/"), f"{wasm}")


def on_one_proxy(copy, kustomize):
    """`meshtrace check` finds the forms that are for one proxy, and no others: given together, as they would be applied."""
    of = {
        ("namespace", "workload"): "MT033",
        ("namespace", "waypoint"): "",
        ("workload", "gateway"): "",
        ("workload", "waypoint"): "",
    }
    for (one, other), expected in of.items():
        for kind in KINDS:
            command = ["dist/meshtrace", "check"]
            for place in (one, other):
                built = subprocess.run([kustomize, "build", str(copy / "overlays" / kind / place)], check=True, stdout=subprocess.PIPE)
                file = copy / f"{kind}-{place}.yaml"
                file.write_bytes(built.stdout)
                command.append(str(file))
            said = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout
            found = sorted(set(re.findall(r"MT026|MT033", said)))
            check(found == ([expected] if expected else []), f"{kind}, {one} and {other}: {said}")


def with_memory(copy, kustomize):
    """Each workload of an application with the component gets the annotation, and keeps those that it has."""
    application = copy / "application"
    application.mkdir()
    annotated = {"metadata": {"annotations": {"own": "kept"}}}
    kinds = {"Deployment": annotated, "StatefulSet": {"metadata": {"labels": {"app": "db"}}}, "DaemonSet": {"spec": {}}}
    workloads = [
        {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "payments"}, "spec": {"template": template}}
        for kind, template in kinds.items()
    ]
    (application / "workloads.yaml").write_text(yaml.safe_dump_all(workloads))
    parts = {"resources": ["workloads.yaml"], "components": ["../memory"]}
    (application / "kustomization.yaml").write_text(yaml.safe_dump(parts))
    built = subprocess.run([kustomize, "build", str(application)], check=True, stdout=subprocess.PIPE, text=True).stdout
    for workload in yaml.safe_load_all(built):
        kind, template = workload["kind"], workload["spec"]["template"]
        own = kinds.pop(kind).get("metadata", {}).get("annotations", {})
        annotations = template["metadata"]["annotations"]
        check(annotations == {**own, "sidecar.istio.io/proxyMemory": "192Mi"}, f"annotations of {kind}: {annotations}")
    check(not kinds, f"{kinds} are left out")
    # What Istio merges into a waypoint's Deployment.
    merged = yaml.safe_load(yaml.safe_load((copy / "memory/waypoint.yaml").read_text())["data"]["deployment"])
    [container] = merged["spec"]["template"]["spec"]["containers"]
    requests = {"name": "istio-proxy", "resources": {"requests": {"memory": "192Mi"}}}
    check(container == requests, f"memory/waypoint.yaml: {container}")


def named(api):
    """Every label and annotation of Istio's in the pages and files is one that its API knows."""
    known = "".join((api / kind).read_text() for kind in ("annotation/annotations.gen.go", "label/labels.gen.go"))
    names = set()
    for folder in ("docs", "istio-manifests", "examples"):
        for path in pathlib.Path(folder).rglob("*"):
            if path.suffix in (".md", ".yaml"):
                # Not a version of an API, and not a repository.
                names.update(re.findall(r"(?<![\w./-])(?:[a-z]+\.)*istio\.io/(?!istio\b|v\d)[A-Za-z-]+", path.read_text()))
    check(len(names) > 5, f"names {names}")
    unknown = sorted(name for name in names if f'"{name}"' not in known)
    check(not unknown, f"Istio knows no {unknown}")


def main():
    kustomize, crds = sys.argv[1], schemas(sys.argv[2])
    named(pathlib.Path(sys.argv[2]).parents[1])
    compare(dict(files()))
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "one-file"
        shutil.copytree(ROOT, copy)
        modules = copy / "module/modules.yaml"
        text = modules.read_text().replace("registry.example.com/meshtrace", "registry.internal/tracing")
        text = text.replace(":0.1.0", ":9.9.9")
        digests = {}

        def digest(found):
            digests[found[1]] = f"{len(digests) + 1:x}" * 64
            return f'{found[1]}_sha256: "{digests[found[1]]}"'

        modules.write_text(re.sub(r'(\w+)_sha256: "0{64}"', digest, text))
        check(len(digests) == len(FILTERS) + 1, f"modules {digests}")
        seen = {}
        for overlay in overlays():
            for resource in judge(*overlay, copy, kustomize, digests, crds):
                # Two of them applied together are two resources.
                other = seen.setdefault((resource, overlay[2]), overlay[0])
                check(other == overlay[0], f"{other} and {overlay[0]} have the same {resource}")
        count = len(list(overlays()))
        together(copy, kustomize)
        on_one_proxy(copy, kustomize)
        with_memory(copy, kustomize)
    print(f"==> one file: {count} overlays rendered, and nothing found in them", file=sys.stderr)


main()
