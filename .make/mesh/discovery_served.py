"""discovery_served.py <served> <rendered>: what istiod served over ADS to the Envoys of discovery.py, and what the program of
istio-manifests/verify renders with the same code, is the same: the filters and their order, the plugins, the tracers.

The meshes differ: one has ports of its machine and Zipkin and OpenTelemetry on them, and its module is a file. So what is
compared is what a manifest brings.
"""

import json
import pathlib
import re
import sys

from example import check
from parts import get

WASM, OURS = ".wasm.v3.Wasm", ("meshtrace", "mesh_tracing", "trace_context", "span_attributes", "access_log_trace", "route_sampling")


def snake(tree):
    """With the names that Envoy gives its fields."""
    if isinstance(tree, dict):
        return {re.sub("(?<=[a-z0-9])([A-Z])", lambda upper: f"_{upper[1].lower()}", key): snake(value) for key, value in tree.items()}
    return [snake(value) for value in tree] if isinstance(tree, list) else tree


def chain(filters, extensions):
    """The filters of a chain, and what a manifest brings into them. The router has a chain of its own, for what leaves."""
    found = []
    for one in filters:
        typed = one.get("typed_config") or extensions[one["name"]]["typed_config"]
        kind = typed.get("type_url") or typed["@type"]
        # Istio's own, which a plain Envoy does not have.
        if "istio" in kind:
            continue
        made = {"name": one["name"], "kind": kind.split("/")[-1], "disabled": one.get("disabled", False)}
        if kind.endswith(WASM):
            config = typed["config"]
            made["root"], made["failure"] = config.get("root_id"), config.get("failure_policy")
            made["configuration"] = json.loads(config.get("configuration", {}).get("value") or "{}")
        elif any(word in one["name"] for word in OURS):
            made["typed"] = typed
        elif "upstream_http_filters" in typed:
            made["upstream"] = chain(typed["upstream_http_filters"], extensions)
        found.append(made)
    return found


def essence(manager, extensions):
    """What a manifest has brought into a connection manager."""
    manager, extensions = snake(manager), {name: snake(one) for name, one in extensions.items()}
    filters = chain(manager["http_filters"], extensions)
    provider = manager.get("tracing", {}).get("provider", {})
    typed = provider.get("typed_config", {})
    # Of ours the whole; of the mesh's own only what a manifest or a provider decides.
    ours = provider.get("name") == "meshtrace"
    tracer = typed if ours else {key: typed.get(key) for key in ("@type", "trace_context_option")}
    early = manager.get("early_header_mutation_extensions", [])
    return {"filters": filters, "tracer": tracer, "early": early}


def place(kind, listener, one):
    if kind == "waypoint":
        return "waypoint" if listener["name"] == "main_internal" and one.get("name") == "direct-http" else None
    if kind == "router":
        return "gateway"
    return {"INBOUND": "sidecar-inbound", "OUTBOUND": "sidecar-outbound"}[listener["traffic_direction"]]


def save(folder, case, admin):
    """What the Envoy has of istiod, by place."""
    dump = json.loads(get(f"http://127.0.0.1:{admin}/config_dump"))["configs"]
    by_kind = {config["@type"].rsplit(".", 1)[1]: config for config in dump}
    extensions = {
        one["ecds_filter"]["name"]: one["ecds_filter"] for one in by_kind.get("EcdsConfigDump", {}).get("ecds_filters", [])
    }
    for dynamic in by_kind["ListenersConfigDump"]["dynamic_listeners"]:
        listener = dynamic["active_state"]["listener"]
        for one in listener["filter_chains"]:
            where = place(case.kind, listener, one)
            managers = [each["typed_config"] for each in one["filters"] if "http_filters" in each.get("typed_config", {})]
            if where and managers:
                # As the verify program names it.
                path = folder / f"{case.files[0].replace('/', '_')}_1.31.0_{where}.json"
                path.write_text(json.dumps(essence(managers[0], extensions), indent=1, sort_keys=True))


def main():
    served, rendered = map(pathlib.Path, sys.argv[1:])
    seen = 0
    for path in sorted(served.glob("*.json")):
        other = rendered / path.name
        check(other.exists(), f"{path.name} was served, and not rendered")
        made = json.loads(other.read_text())
        found = json.loads(json.dumps(essence(made["manager"], made["extensions"])))
        expected = json.loads(path.read_text())
        for key in expected:
            check(found[key] == expected[key], f"{path.stem}: {key}: served {expected[key]}, rendered {found[key]}")
        seen += 1
    check(seen > 20, f"only {seen} were served")
    print(f"==> discovery: {seen} connection managers served as they are rendered", file=sys.stderr)


if __name__ == "__main__":
    main()
