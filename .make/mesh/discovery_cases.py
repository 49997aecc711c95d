"""The manifests that discovery.py has served, and what comes of each."""

import pathlib
import re

import yaml

MANIFESTS = pathlib.Path("istio-manifests")
DIST = pathlib.Path("dist").absolute()

NONE, W3C, B3, BOTH = set(), {"w3c"}, {"b3"}, {"w3c", "b3"}
SPAN = "00f067aa0ba902b7"
TRACES = {
    "nothing": None,
    "w3c": "4bf92f3577b34da6a3ce929d0e0e4736",
    "b3": "80f198ee56343ba864fe8b2a57d3eff7",
    "malformed": None,
}
ARRIVALS = {
    "nothing": {},
    "w3c": {"traceparent": f"00-{TRACES['w3c']}-{SPAN}-01"},
    "b3": {"x-b3-traceid": TRACES["b3"], "x-b3-spanid": SPAN, "x-b3-sampled": "1"},
    "malformed": {"b3": "hello"},
}


class Case:
    """A manifest, or several that go together, and what comes of it."""

    def __init__(self, files, tracer, reads, writes, at="", spans=2, logs=False, attributes=None, **more):
        self.files, self.tracer = files.split(), tracer
        places = {"gateway": "router", "edge": "router", "waypoint": "waypoint"}
        self.kind = next((kind for place, kind in places.items() if place in files), "sidecar")
        # The formats of a caller whose trace goes on, and those that the application is told.
        self.reads, self.writes = reads, writes
        # Of a request that is sampled. Requests are to a path below `at`; one to `fail` is reported anyhow.
        self.spans, self.at = spans, at
        # Whether each log line has the ids of a span.
        self.logs = logs
        # Of the application's span.
        self.attributes = attributes or {}
        # Whether a caller's sampled trace may end here, whether a request without a context is sampled (None: either
        # may be), and whether the application is told a malformed `b3` of the caller's.
        self.dice, self.own, self.stale = more.get("dice", False), more.get("own"), more.get("stale", False)

    def documents(self):
        text = "\n---\n".join((MANIFESTS / f"{name}.yaml").read_text() for name in self.files)
        return [local(document) for document in yaml.safe_load_all(text.replace("/etc/meshtrace/", f"{DIST}/"))]


USER = {"user.id": "zoe", "tenant.id": "acme"}
SAMPLING = "wasmplugin/route-sampling-otel envoyfilter/route-sampling-otel telemetry/route-sampling"
CASES = [
    Case("wasmplugin/mesh-tracing", "zipkin-b3", BOTH, BOTH, logs=True),
    Case("trafficextension/mesh-tracing", "zipkin-b3", BOTH, BOTH, logs=True),
    Case("native/mesh-tracing", "zipkin-b3", BOTH, BOTH),
    Case("wasmplugin/mesh-tracing-gateway", "otel", NONE, BOTH, at="/fail", logs=True),
    Case("trafficextension/mesh-tracing-gateway", "otel", NONE, BOTH, at="/fail", logs=True),
    Case("native/mesh-tracing-gateway", "otel", NONE, BOTH, at="/fail"),
    Case("wasmplugin/trace-context-zipkin", "zipkin", BOTH, BOTH),
    Case("trafficextension/trace-context-zipkin", "zipkin", BOTH, BOTH),
    Case("wasmplugin/trace-context-zipkin-gateway", "zipkin", BOTH, BOTH),
    Case("trafficextension/trace-context-zipkin-gateway", "zipkin", BOTH, BOTH),
    Case("wasmplugin/mesh-tracing-waypoint", "zipkin-b3", BOTH, BOTH, spans=1, logs=True),
    Case("trafficextension/mesh-tracing-waypoint", "zipkin-b3", BOTH, BOTH, spans=1, logs=True),
    Case("native/mesh-tracing-waypoint", "zipkin-b3", BOTH, BOTH, spans=1),
    Case("wasmplugin/trace-context-zipkin-waypoint", "zipkin", BOTH, BOTH, spans=1),
    Case("trafficextension/trace-context-zipkin-waypoint", "zipkin", BOTH, BOTH, spans=1),
    Case("wasmplugin/span-attributes", "otel", W3C, W3C, attributes=USER, stale=True),
    Case(SAMPLING, "otel", W3C, W3C, at="/payments", own=True, stale=True),
    Case(SAMPLING, "otel", W3C, W3C, at="/health", own=False, stale=True),
    Case("envoyfilter/trace-context-edge", "otel", NONE, W3C),
    Case("envoyfilter/trace-context-no-tracer", "none", BOTH, BOTH, spans=0),
    Case("envoyfilter/trace-context-otel-upstream", "otel", W3C, BOTH),
    Case("envoyfilter/trace-context-otel-upstream-image", "otel", W3C, BOTH),
    Case("envoyfilter/trace-context-otel-early envoyfilter/trace-context-otel-upstream", "otel", BOTH, BOTH),
    Case(
        "envoyfilter/trace-context-zipkin-b3-early envoyfilter/trace-context-zipkin-b3-upstream",
        "zipkin-b3",
        BOTH,
        BOTH,
    ),
    Case("envoyfilter/trace-context-zipkin-b3-upstream-image", "zipkin-b3", B3, BOTH),
    Case("access-log/envoyfilter-otel", "otel", W3C, W3C, logs=True, stale=True),
    Case("telemetry/opentelemetry", "none", W3C, W3C, dice=True, stale=True),
    Case("telemetry/zipkin", "none", BOTH, BOTH, stale=True),
]

# What is for other versions than 1.31, and what no case is about.
OTHERS = {
    # In the mesh and in its root namespace, of every case; and the same log with Istio's own fields.
    "access-log/mesh-config",
    "access-log/mesh-config-istio",
    "access-log/telemetry",
    # Of older versions.
    "access-log/envoyfilter-otel-1.28",
    "wasmplugin/span-attributes-1.28",
    # A service outside of the mesh, by its name, and a piece of the bootstrap.
    "collector/external",
    "native/flush",
}


def local(tree):
    """The manifest with the module's file in the place of its image: there is no agent that fetches it."""
    if isinstance(tree, list):
        return [local(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    tree = {key: local(value) for key, value in tree.items()}
    if "remote" in tree and "http_uri" in tree["remote"]:
        return {"local": {"filename": str(module(tree["remote"]["http_uri"]["uri"]))}}
    if str(tree.get("url", "")).startswith("oci://"):
        return {**tree, "url": f"file://{module(tree['url'])}"}
    return tree


def module(url):
    return DIST / f"{re.search(r'/([a-z_]+):', url)[1]}.wasm"
