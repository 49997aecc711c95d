"""discovery.py <pilot-discovery> <envoy>…: the manifests as Istio serves them, in real Envoys.

Istio's pilot-discovery reads the mesh and a manifest from a small Kubernetes API. An Envoy takes its listeners,
clusters, routes and plugins from it over ADS. Requests go through, and what the application is told, what is reported
and what is logged must be one trace. Where Istio's agent would fetch a module from its image, the manifest names the
module's file.
"""

import http.server
import json
import os
import pathlib
import re
import sys
import tempfile
import threading
import urllib.error

import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

sys.path.append(str(pathlib.Path(__file__).parents[1]))

import discovery_api  # noqa: E402
from parts import Processes, free_port, get, wait_for  # noqa: E402  # the folder above is no package

MANIFESTS = pathlib.Path("istio-manifests")
DIST = pathlib.Path("dist").absolute()
ROOT, HERE = "istio-system", "default"
# Where a sidecar listens for what its application sends; one of a test's own, so that ports of Istio's names are free.
OUTSIDE = "127.77.15.1"
APP = "app.default.svc.cluster.local"
COLLECTORS = [("collector", HERE), ("otel-collector", "observability")]

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
        self.kind = "router" if re.search("gateway|edge", files) else "sidecar"
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
    # Requests reach a waypoint through tunnels with TLS.
    "native/mesh-tracing-waypoint",
    "trafficextension/mesh-tracing-waypoint",
    "trafficextension/trace-context-zipkin-waypoint",
    "wasmplugin/mesh-tracing-waypoint",
    "wasmplugin/trace-context-zipkin-waypoint",
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


def check(condition, message):
    if not condition:
        sys.exit(f"error: {message}")


class Back(http.server.ThreadingHTTPServer):
    """The application and the collector: the requests and the spans that arrive."""

    def __init__(self):
        self.requests, self.spans = {}, []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests[self.path] = {name.lower(): value for name, value in self.headers.items()}
        self.done()

    def do_POST(self):
        body = self.body()
        self.server.spans.extend(of_zipkin(body) if "api/v2" in self.path else of_otlp(body))
        self.done()

    def body(self):
        """The proxy's own tracers send in chunks, the filter a length."""
        if "content-length" in self.headers:
            return self.rfile.read(int(self.headers["content-length"]))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def done(self):
        # Istio repeats what is answered with 503.
        self.send_response(500 if "fail" in self.path else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


KINDS = {2: "SERVER", 3: "CLIENT"}


def of_otlp(body):
    message = ExportTraceServiceRequest()
    message.ParseFromString(body)
    for of_resource in message.resource_spans:
        for scope in of_resource.scope_spans:
            for span in scope.spans:
                ids = {"trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_span_id.hex()}
                yield {**ids, "kind": KINDS.get(span.kind), "tags": texts(span.attributes)}


def of_zipkin(body):
    for span in json.loads(body):
        ids = {"trace": span["traceId"], "id": span["id"], "parent": span.get("parentId", "")}
        yield {**ids, "kind": span.get("kind"), "tags": span.get("tags", {})}


def texts(attributes):
    return {attribute.key: attribute.value.string_value for attribute in attributes}


def resource(api, kind, name, namespace, spec):
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": f"{api}.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def service(host, ports, target):
    return {
        "hosts": [host],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": [{"number": number, "name": name, "protocol": "HTTP"} for name, number in ports.items()],
        "endpoints": [{"address": "127.0.0.1", "ports": {name: target for name in ports}}],
    }


class World:
    """The mesh of a case: an application behind a sidecar or a gateway, and the collectors."""

    def __init__(self, case, back):
        self.case, self.back = case, back
        self.outside, self.inside = free_port(), free_port()
        self.xds, self.admin = free_port(), free_port()

    def mesh(self):
        here = self.back.server_port
        target = self.inside if self.case.kind == "sidecar" else here
        app = service(APP, {"http": self.outside}, target)
        resources = [resource("networking", "ServiceEntry", "app", HERE, app)]
        for name, namespace in COLLECTORS:
            ports = {"http-zipkin": 9411, "http-otlp": 4318}
            spec = service(f"{name}.{namespace}.svc.cluster.local", ports, here)
            resources.append(resource("networking", "ServiceEntry", name, namespace, spec))
        sidecar = {
            # Nothing is redirected: it listens on ports of its own.
            "ingress": [
                {
                    "port": {"number": self.inside, "protocol": "HTTP", "name": "http"},
                    "bind": "127.0.0.1",
                    "captureMode": "NONE",
                    "defaultEndpoint": f"127.0.0.1:{here}",
                }
            ],
            "egress": [{"bind": OUTSIDE, "captureMode": "NONE", "hosts": ["*/*"]}],
        }
        port = {"number": self.outside, "name": "http", "protocol": "HTTP"}
        server = {"port": port, "bind": "127.0.0.1", "hosts": ["*"]}
        gateway = {"selector": {"istio": "ingressgateway"}, "servers": [server]}
        log = yaml.safe_load((MANIFESTS / "access-log/telemetry.yaml").read_text())
        route = {"destination": {"host": APP, "port": {"number": self.outside}}}
        routes = {"hosts": ["*"], "gateways": ["edge"], "http": [{"route": [route]}]}
        return resources + [
            resource("networking", "Sidecar", "default", HERE, sidecar),
            resource("networking", "Gateway", "edge", HERE, gateway),
            resource("networking", "VirtualService", "app", HERE, routes),
            resource("security", "PeerAuthentication", "plain", ROOT, {"mtls": {"mode": "DISABLE"}}),
            {**log, "metadata": {**log["metadata"], "namespace": ROOT}},
        ]

    def documents(self):
        found = self.mesh() + self.case.documents()
        for document in found:
            document["metadata"].setdefault("namespace", HERE)
        names = sorted({document["metadata"]["namespace"] for document in found})
        return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names] + found

    def config(self):
        collector = f"collector.{HERE}.svc.cluster.local"
        w3c = "USE_B3_WITH_W3C_PROPAGATION"
        log = yaml.safe_load((MANIFESTS / "access-log/mesh-config.yaml").read_text())
        labels = {"path": "%REQ(:PATH)%", "trace_id": "%TRACE_ID%"}
        providers = log["extensionProviders"] + [
            {"name": "zipkin", "zipkin": {"service": collector, "port": 9411, "traceContextOption": w3c}},
            {"name": "zipkin-b3", "zipkin": {"service": collector, "port": 9411}},
            {
                "name": "otel",
                "opentelemetry": {"service": collector, "port": 4318, "http": {"path": "/v1/traces", "timeout": "1s"}},
            },
            {"name": "json-log", "envoyFileAccessLog": {"path": "/dev/stdout", "logFormat": {"labels": labels}}},
        ]
        chosen = [] if self.case.tracer == "none" else [self.case.tracer]
        return {
            "rootNamespace": ROOT,
            "enableTracing": True,
            "enableAutoMtls": False,
            # A flag that falls as the dice do cannot be compared.
            "defaultConfig": {"tracing": {"sampling": 100}},
            "extensionProviders": providers,
            "defaultProviders": {"tracing": chosen},
        }

    def labels(self):
        found = {"app": "app"}
        for document in self.case.documents():
            spec = document["spec"]
            found.update(spec.get("selector", {}).get("matchLabels", {}))
            found.update(spec.get("workloadSelector", {}).get("labels", {}))
        if self.case.kind == "router":
            found["istio"] = "ingressgateway"
        return found

    def bootstrap(self):
        grpc = {"envoy_grpc": {"cluster_name": "xds"}}
        ads = {"ads": {}, "resource_api_version": "V3"}
        h2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        options = {"@type": f"type.googleapis.com/{h2}", "explicit_http_config": {"http2_protocol_options": {}}}
        endpoint = {"endpoint": {"address": address(self.xds)}}
        return {
            "node": {
                "id": f"{self.case.kind}~10.0.0.1~app-1.{HERE}~{HERE}.svc.cluster.local",
                "cluster": f"app.{HERE}",
                "metadata": {
                    "NAMESPACE": HERE,
                    "LABELS": self.labels(),
                    "ISTIO_VERSION": "1.31.0",
                    "INTERCEPTION_MODE": "NONE",
                    "CLUSTER_ID": "Kubernetes",
                },
            },
            "admin": {"address": address(self.admin)},
            # The tracers send spans as they end.
            "layered_runtime": {
                "layers": [
                    {
                        "name": "test",
                        "static_layer": {
                            "tracing.zipkin.min_flush_spans": 1,
                            "tracing.opentelemetry.min_flush_spans": 1,
                        },
                    }
                ]
            },
            "dynamic_resources": {
                "ads_config": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [grpc]},
                "cds_config": ads,
                "lds_config": ads,
            },
            "static_resources": {
                "clusters": [
                    {
                        "name": "xds",
                        "typed_extension_protocol_options": {h2: options},
                        "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [endpoint]}]},
                    }
                ]
            },
        }

    def istiod(self, processes, program):
        folder = processes.folder
        mesh, kubeconfig = folder / "mesh.json", folder / "kubeconfig.json"
        mesh.write_text(json.dumps(self.config()))
        server = f"http://127.0.0.1:{discovery_api.serve(self.documents())}"
        kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "fake", "cluster": {"server": server}}],
                    "users": [{"name": "fake", "user": {}}],
                    "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
                    "current-context": "fake",
                }
            )
        )
        ready = free_port()
        command = [program, "discovery", "--registries=Kubernetes", f"--kubeconfig={kubeconfig}"]
        command += [f"--meshConfig={mesh}", f"--networksConfig={folder / 'none'}", "--httpsAddr=", "--secureGRPCAddr="]
        command += [f"--grpcAddr=127.0.0.1:{self.xds}", f"--httpAddr=127.0.0.1:{ready}"]
        command += [f"--monitoringAddr=127.0.0.1:{free_port()}", "--ctrlz_port=0", "--shutdownDuration=0s"]
        environment = {
            **os.environ,
            "POD_NAMESPACE": ROOT,
            "ENABLE_CA_SERVER": "false",
            "PILOT_CERT_PROVIDER": "none",
            # Lists and watches are all that the API here knows.
            "KUBE_FEATURE_WatchListClient": "false",
            # Filters of Istio's own Envoy.
            "PILOT_ENABLE_METADATA_EXCHANGE": "false",
            "PILOT_ENABLE_ALPN_FILTER": "false",
            # It would write addresses into the services.
            "PILOT_ENABLE_IP_AUTOALLOCATE": "false",
        }
        process = processes.start("istiod", command, env=environment)

        def answers():
            check(process.poll() is None, f"istiod has ended: {(folder / 'istiod.log').read_text()[-3000:]}")
            get(f"http://127.0.0.1:{ready}/ready")
            return True

        wait_for("istiod", answers)

    def send(self, arrival):
        """A request that arrives in this form; returns its path."""
        path = f"{self.case.at}/{arrival}"
        host = OUTSIDE if self.case.kind == "sidecar" else "127.0.0.1"
        headers = {"host": APP, "x-user-id": "zoe", "x-tenant-id": "acme", **ARRIVALS[arrival]}
        try:
            get(f"http://{host}:{self.outside}{path}", headers)
        except urllib.error.HTTPError as error:
            check(error.code == 500 and self.case.at == "/fail", f"{path}: {error}")
        return path


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def told(headers):
    """What the application is told: the format, and the trace, the span and the decision in it."""
    found = {}
    if "traceparent" in headers:
        _, trace, span, flags = headers["traceparent"].split("-")
        found["w3c"] = (trace, span, bool(int(flags, 16) & 1))
    if "x-b3-traceid" in headers:
        sampled = headers.get("x-b3-sampled") == "1"
        found["b3"] = (headers["x-b3-traceid"].rjust(32, "0"), headers["x-b3-spanid"], sampled)
    return found


def judge(name, world, log):
    case, back = world.case, world.back
    for arrival in ARRIVALS:
        path = world.send(arrival)
        label = f"{name}, {arrival} arrives"
        formats = told(back.requests[path])
        if arrival == "malformed":
            kept = back.requests[path].get("b3")
            check((kept == ARRIVALS[arrival]["b3"]) == case.stale, f"{label}: the application is told b3: {kept}")
            # Envoy's Zipkin tracer makes no span of it.
            check(len(set(formats.values())) <= 1, f"{label}: the application is told {formats}")
            continue
        if arrival == "nothing" and not case.spans:
            check(not formats, f"{label}: the application is told {formats}")
            continue
        of_writes = {formats.get(each) for each in case.writes}
        check(len(of_writes) == 1 and None not in of_writes, f"{label}: the application is told {formats}")
        trace, span, sampled = of_writes.pop()
        check(arrival != "nothing" or case.own in (None, sampled), f"{label}: sampled is {sampled}")
        goes_on = arrival in case.reads
        check((trace == TRACES[arrival]) == goes_on, f"{label}: the application is told the trace {trace}")
        if not case.spans:
            continue
        # Where no caller's decision goes on, dice may decide.
        if not sampled and case.at != "/fail":
            check(not goes_on or case.dice, f"{label}: not sampled")
            continue
        check(span != SPAN, f"{label}: no span of the proxy's")

        def reported():
            found = [each for each in list(back.spans) if each["trace"] == trace]
            return found if len(found) >= case.spans else None

        spans = wait_for(f"{case.spans} spans, {label}, of {back.spans}", reported)
        check(len(spans) == case.spans, f"{label}: {len(spans)} spans")
        parents = {each["id"]: each["parent"] for each in spans}
        check(span in parents, f"{label}: the application is told {span}, and {parents} are reported")
        roots = [parent for parent in parents.values() if parent not in parents]
        check(len(roots) == 1, f"{label}: {parents} are no chain")
        check(roots == [SPAN] or not goes_on, f"{label}: the first span's parent is {roots}")
        tags = next(each["tags"] for each in spans if each["id"] == span)
        for key, value in case.attributes.items():
            check(tags.get(key) == value, f"{label}: {key} is {tags.get(key)}")
        if case.logs:
            lines = wait_for(f"log lines, {label}", lambda: logged(log, path, 2 if case.kind == "sidecar" else 1))
            # Where the file brings a filter on the way in alone, the line on the way out has none.
            ids = {(line["trace_id"], line["span_id"]) for line in lines if line.get("trace_id")}
            expected = {(each["trace"], each["id"]) for each in spans}
            check(ids <= expected and ids, f"{label}: the log has {ids}, reported are {expected}")


def logged(log, path, count):
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    found = [line for line in lines if line.get("path") == path]
    return found if len(found) == count else None


def run(case, program, envoy):
    back = Back()
    world = World(case, back)
    name = " ".join(case.files)
    with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
        world.istiod(processes, program)
        processes.envoy("envoy", envoy, json.dumps(world.bootstrap()), world.admin)
        judge(name, world, pathlib.Path(folder) / "envoy.log")
    back.shutdown()


def main():
    program, *envoys = sys.argv[1:]
    folders = ["access-log", "collector", "envoyfilter", "native", "telemetry", "trafficextension", "wasmplugin"]
    there = {f"{folder}/{path.stem}" for folder in folders for path in (MANIFESTS / folder).glob("*.yaml")}
    named = {name for case in CASES for name in case.files} | OTHERS
    check(there == named, f"manifests that no case names, or that are gone: {there ^ named}")
    os.environ["ENVOY_DYNAMIC_MODULES_SEARCH_PATH"] = str(DIST)
    for envoy in envoys:
        for case in CASES:
            run(case, program, envoy)
    print(f"==> Istio's discovery: {len(CASES)} cases, each in {len(envoys)} Envoys", file=sys.stderr)


main()
