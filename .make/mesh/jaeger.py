"""jaeger.py <envoys> [<jaeger> [<kiali>]]: what a gateway, a waypoint, a sidecar and an application report, and what Jaeger finds of it.

The proxies are nodes of Istio with mesh_tracing, or the native module, as their tracer; the application has OpenTelemetry's
SDK. What they export must be what test-envoy/fixtures/jaeger has. Where there is a Jaeger it gets each export as it is, and is
asked as its users and Kiali ask; its answers must be those of the fixture. UPDATE_JAEGER=1 writes the fixture.

<envoys>: host=version=program, separated by commas; host is wasm or native. <kiali> is a test that is compiled with Kiali's
source, and asks the same Jaeger.
"""

import gzip
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from servers import Quiet, address, check, cluster, serve

sys.path.append(str(pathlib.Path(__file__).parents[1]))
sys.path.append(str(pathlib.Path(__file__).parents[1] / "jaeger"))

from parts import Processes, free_port, get, wait_for  # noqa: E402  # the folder above is no package
from server import Jaeger, tags_of  # noqa: E402

FIXTURES = pathlib.Path("test-envoy/fixtures/jaeger")
SERVICE = "outbound|9080||reviews.shop.svc.cluster.local"
# The clusters behind each kind of proxy, as Istio names them.
CLUSTERS = {"router": SERVICE, "waypoint": "inbound-vip|9080|http|reviews.shop.svc.cluster.local", "sidecar": "inbound|9080||"}
OPERATION = "reviews.shop.svc.cluster.local:9080/*"
# How the users' proxies are told: as they are by default, and for Kiali and old searches.
REPORTS = {"plain": {}, "kiali": {"span_name": "operation", "envoy_attributes": True}}
REQUESTS = ["/reviews?secret=1", "/reviews/fail"]


class Collector:
    """Keeps what is exported, and gives it to a Jaeger as it is, whose answer is the sender's."""

    def __init__(self, jaeger):
        self.messages = messages = []

        class Handler(Quiet):
            def do_POST(self):
                body = self.body()
                plain = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
                answer = b""
                if jaeger:
                    named = {key: value for key, value in self.headers.items() if key.lower().startswith("content-")}
                    url = f"http://127.0.0.1:{jaeger.otlp}{self.path}"
                    with urllib.request.urlopen(urllib.request.Request(url, body, named), timeout=20) as said:
                        answer = said.read()
                messages.append(ExportTraceServiceRequest.FromString(plain))
                self.answer(200, answer, [("content-type", "application/x-protobuf")])

        self.port = serve(Handler)

    def spans(self):
        """Every span with the attributes of its resource."""
        for message in list(self.messages):
            for of_resource in message.resource_spans:
                resource = attributes(of_resource.resource.attributes)
                for scope in of_resource.scope_spans:
                    for span in scope.spans:
                        yield span, resource


def application(collector):
    """Serves with OpenTelemetry's SDK, and returns its port."""
    provider = TracerProvider(resource=Resource.create({"service.name": "reviews", "service.instance.id": "reviews-1"}))
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{collector}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")

    class Handler(Quiet):
        def do_GET(self):
            context = propagate.extract({name.lower(): value for name, value in self.headers.items()})
            with tracer.start_as_current_span("GET /reviews", context=context, kind=trace.SpanKind.SERVER):
                self.answer(503 if "fail" in self.path else 200)

    return serve(Handler)


def typed(kind, **fields):
    return {"@type": f"type.googleapis.com/envoy.{kind}", **fields}


def text(config):
    return {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": json.dumps(config)}


def tracer(host, config, spans_of_calls):
    """The HTTP filters in front of the router, and the connection manager's `tracing`."""
    if host == "wasm":
        code = {"local": {"filename": "dist/mesh_tracing.wasm"}}
        wasm = {
            "name": "mesh_tracing",
            "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": code},
            "configuration": text(config),
        }
        return [{"name": "mesh_tracing", "typed_config": typed("extensions.filters.http.wasm.v3.Wasm", config=wasm)}], {}
    module = {"name": "meshtrace", "do_not_close": True}
    filters = "extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter"
    export = typed(filters, dynamic_module_config=module, filter_name="mesh_tracing_export")
    provider = typed(
        "extensions.tracers.dynamic_modules.v3.DynamicModuleTracer",
        dynamic_module_config=module,
        tracer_name="mesh_tracing",
        tracer_config=text(config),
    )
    tracing = {
        "spawn_upstream_span": spans_of_calls,
        "provider": {"name": "meshtrace", "typed_config": provider},
    }
    return [{"name": "mesh_tracing_export", "disabled": True, "typed_config": export}], {"tracing": tracing}


def proxy(host, kind, app, admin, port, following, collector, report):
    """A proxy as Istio's agent describes it, with one listener."""
    report = dict(report)
    # Istio's own tracers make one span at a gateway.
    if kind == "router" and "span_name" in report:
        report["role"] = "server"
    config = {
        "trace_context": {},
        "sampling": {"default": "always"},
        "span_attributes": {},
        "report": {"cluster": "collector", "batch": {"interval_ms": 10}, "compression": "gzip", **report},
    }
    filters, tracing = tracer(host, config, kind == "router" and "role" not in report)
    route = {"cluster": CLUSTERS[kind]}
    routes = [{"match": {"prefix": "/"}, "route": route}]
    if host == "native" and "span_name" in report:
        # As istiod writes it for every route.
        routes[0]["decorator"] = {"operation": OPERATION}
    manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="ingress",
        http_filters=[*filters, {"name": "router", "typed_config": typed("extensions.filters.http.router.v3.Router")}],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        **tracing,
    )
    # A waypoint has no label `app`.
    labels = {"service.istio.io/canonical-name": app} if kind == "waypoint" else {"app": app}
    bootstrap = {
        "node": {
            "id": node_id(kind, app),
            "cluster": f"{app}.shop",
            "metadata": {"NAMESPACE": "shop", "CLUSTER_ID": "east", "LABELS": labels},
        },
        "admin": {"address": address(admin)},
        "static_resources": {
            "listeners": [
                {
                    "name": "ingress",
                    "address": address(port),
                    "traffic_direction": "OUTBOUND" if kind == "router" else "INBOUND",
                    "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
                }
            ],
            "clusters": [cluster(route["cluster"], following), cluster("collector", collector)],
        },
    }
    # JSON is YAML.
    return json.dumps(bootstrap)


def node_id(kind, app):
    return f"{kind}~10.0.0.7~{app}-v1-6d8996bff-ztg6z.shop~shop.svc.cluster.local"


def value_of(value):
    return getattr(value, value.WhichOneof("value"))


def attributes(pairs):
    return {pair.key: value_of(pair.value) for pair in pairs}


# What is another one in each run.
VARIES = {
    "server.port": "PORT",
    "network.peer.port": "PORT",
    "guid:x-request-id": "ID",
    "http.request.header.x-request-id": "ID",
    "telemetry.sdk.version": "VERSION",
    "otel.scope.version": "VERSION",
    "internal.span.format": "FORMAT",
}


def settled(entries):
    def of(key, value):
        if isinstance(value, str):
            value = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", value)
        return VARIES.get(key.removeprefix("process "), value)

    return {key: of(key, value) for key, value in sorted(entries.items())}


KINDS = {2: "server", 3: "client"}


def exported(collector, since, number):
    """The spans of one request, each by its service and kind, without what differs from run to run."""
    spans = wait_for(f"{number} spans", lambda: found if len(found := list(collector.spans())[since:]) >= number else None)
    check(len(spans) == number, f"{len(spans)} spans and not {number}")
    check(len({span.trace_id for span, _ in spans}) == 1, "the spans are in several traces")
    names = {span.span_id: f"{resource['service.name']} {KINDS[span.kind]}" for span, resource in spans}
    check(len(set(names.values())) == number, f"spans {sorted(names.values())}")
    told = {}
    for span, resource in spans:
        told[names[span.span_id]] = {
            "name": span.name,
            "parent": names[span.parent_span_id] if span.parent_span_id else None,
            "status": span.status.code,
            "sampled": span.flags & 1,
            "tracestate": span.trace_state,
            "attributes": settled(attributes(span.attributes)),
            "resource": settled(resource),
        }
    return dict(sorted(told.items()))


def searches(name):
    """What is searched: the service, the tags, further parameters, and how many traces are to be found."""
    # Kiali names the cluster in each search of traces, and takes 100 of them.
    kiali = {"istio.cluster_id": "east"}
    for service, tags, parameters, number in [
        ("gateway.shop", None, {}, 2),
        ("reviews", None, {}, 2),
        ("gateway.shop", {"http.response.status_code": "200"}, {}, 1),
        ("gateway.shop", {"http.response.status_code": "503"}, {}, 1),
        ("gateway.shop", {"http.response.status_code": "404"}, {}, 0),
        ("gateway.shop", {"user.id": "zoe"}, {}, 2),
        ("reviews.shop", {"user.id": "zoe"}, {}, 2),
        ("gateway.shop", {"user.id": "nobody"}, {}, 0),
        ("gateway.shop", {"node_id": node_id("router", "gateway")}, {}, 2),
        ("reviews.shop", {"node_id": node_id("sidecar", "reviews")}, {}, 2),
        ("reviews.shop", {"node_id": node_id("router", "gateway")}, {}, 0),
        # Kiali's searches: of an app, with its slider for durations, and of failed requests.
        ("reviews.shop", kiali, {"limit": 100}, 2),
        ("reviews.shop", {"istio.cluster_id": "west"}, {"limit": 100}, 0),
        ("reviews.shop", kiali, {"limit": 1}, 1),
        ("reviews.shop", kiali, {"limit": 100, "minDuration": "1us"}, 2),
        ("reviews.shop", kiali, {"limit": 100, "minDuration": "3600000000us"}, 0),
        ("reviews.shop", {"error": "true"}, {}, 1),
        ("gateway.shop", {"error": "true"}, {}, 1),
        # A waypoint's traces, where Kiali has `use_waypoint_name`.
        ("waypoint.shop", kiali, {"limit": 100}, 2 if name == "kiali" else 0),
        # Envoy's own names.
        ("gateway.shop", {"http.status_code": "200", "component": "proxy"}, {}, 1 if name == "kiali" else 0),
    ]:
        yield service, tags, parameters, number


def judge(jaeger, name, host):
    """Asks Jaeger, and returns its answers."""
    wait_for("traces", lambda: len([t for t in jaeger.traces("reviews") if len(t["spans"]) == SPANS]) == 2)
    answers = {"services": sorted(jaeger.ask("services")), "dependencies": jaeger.dependencies(), "searches": []}
    way = [f"{app}.shop" for _, app in reversed(proxies(name))] + ["reviews"]
    check(answers["services"] == sorted(way), f"services {answers['services']}")
    # No service calls itself, not even a gateway with two spans.
    edges = sorted([caller, called, 2] for caller, called in zip(way, way[1:]))
    check(answers["dependencies"] == edges, f"dependencies {answers['dependencies']}")

    for service, tags, parameters, number in searches(name):
        found = len(jaeger.traces(service, tags, **parameters))
        check(found == number, f"{found} traces and not {number} with {service} {tags} {parameters}")
        answers["searches"].append([service, tags, parameters, found])

    answers["operations"] = {service: sorted(jaeger.ask(f"services/{service}/operations")) for service in answers["services"]}
    operation = OPERATION if name == "kiali" else "GET"
    # An inbound cluster of Istio has no host; the native tracer has it from the route.
    inbound = operation if host == "native" else "GET"
    expected = {"gateway.shop": [operation], "reviews": ["GET /reviews"], "reviews.shop": [inbound]}
    if name == "kiali":
        expected["waypoint.shop"] = [operation]
    check(answers["operations"] == expected, f"operations {answers['operations']}")
    for service, [one] in expected.items():
        check(len(jaeger.traces(service, operation=one)) == 2, f"nothing by operation {service} {one}")
        check(not jaeger.traces(service, operation="other"), "an operation that nothing has is found")

    found = jaeger.traces("reviews.shop", {"error": "true"})[0]
    answers["trace"] = {label: settled(tags) for label, tags in sorted(read_by_kiali(found, name).items())}
    return answers


def proxies(name):
    """The proxies in front of the application, from it on."""
    between = [("waypoint", "waypoint")] if name == "kiali" else []
    return [("sidecar", "reviews"), *between, ("router", "gateway")]


# With the two spans of a gateway, or the waypoint's.
SPANS = 4


def read_by_kiali(found, name):
    """Reads a trace as Kiali does (business/tracing.go, frontend/src/utils/tracing/TracingHelper.ts). Returns its tags."""
    told = {}
    for span in found["spans"]:
        process = found["processes"][span["processID"]]
        tags, service = tags_of(span), process["serviceName"]
        told[f"{service} {tags['span.kind']}"] = {**tags, **{f"process {k}": v for k, v in tags_of(process).items()}}
        if service == "reviews":
            continue
        # App and namespace are what the service is called.
        app, namespace = service.split(".")
        # Its filter by workload, and the link to it.
        kind, _, pod, domain = tags["node_id"].split("~")
        check(pod.startswith(f"{app}-v1") and pod.endswith(namespace), f"pod {pod}")
        workload = re.fullmatch(r"([a-z0-9-.]+)-[bcdfghjklmnpqrstvwxz2456789]{6,16}-[a-z0-9]+", pod.rpartition(".")[0])
        check(workload and workload[1] == f"{app}-v1", f"workload of {pod}")
        # Failed spans are red.
        check(tags["error"] is True, f"no error in {tags}")
        if name != "kiali":
            continue
        # What it shows of a span of Envoy's.
        check(tags["component"] == "proxy" and int(tags["http.status_code"]) == 503, f"{tags}")
        check(tags["http.method"] == "GET" and tags["http.url"].endswith("/reviews/fail"), f"{tags}")
        if app == "waypoint":
            # Its filter of a waypoint's traces by the app behind it.
            check(span["operationName"].startswith("reviews.shop"), span["operationName"])
        if app == "gateway":
            direction, _, _, host = tags["upstream_cluster"].split("|")
            check(direction == "outbound" and host.split(".")[:2] == ["reviews", "shop"], f"{tags}")
            # Its filter by service, where that has another name than the application.
            check(span["operationName"].startswith("reviews.shop"), span["operationName"])
    return told


def differences(path, old, new):
    """The places where two trees differ, one a line."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(f"{path}.{key}", old.get(key), new.get(key))
    elif old != new:
        yield f"  {path}: {old!r} is {new!r}"


def compare(case, found):
    """Compares with the fixture, as far as there was a Jaeger to be asked."""
    path = FIXTURES / f"{case}.json"
    if os.environ.get("UPDATE_JAEGER") == "1":
        check("answers" in found, "no Jaeger to write the fixture with: UPDATE_JAEGER=1 JAEGER=1 .make/mesh/jaeger.sh")
        path.write_text(json.dumps(found, indent=1) + "\n")
        return
    fixture = json.loads(path.read_text())
    if "answers" not in found:
        del fixture["answers"]
    lines = list(differences("", fixture, json.loads(json.dumps(found))))
    lines += ["if that is meant: UPDATE_JAEGER=1 JAEGER=1 .make/mesh/jaeger.sh"] if lines else []
    check(not lines, f"{path} has another:\n" + "\n".join(lines))


def asked_by_kiali(jaeger, name, kiali):
    """Kiali's own code asks, over HTTP and over gRPC."""
    at = {"JAEGER_HTTP": f"http://127.0.0.1:{jaeger.query}", "JAEGER_GRPC": f"http://127.0.0.1:{jaeger.grpc}", "REPORT": name}
    command = [kiali, "-test.run=TestTracesOfTheProxies", "-test.v"]
    said = subprocess.run(command, env={**os.environ, **at}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    passed = said.stdout.count("--- PASS: TestTracesOfTheProxies/")
    check(said.returncode == 0 and passed == 2, f"Kiali, {name}: {said.stdout}")


def run(host, version, envoy, name, program, kiali):
    with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
        jaeger = Jaeger(processes, program) if program else None
        collector = Collector(jaeger)
        entrance = application(collector.port)
        for kind, app in proxies(name):
            admin, port = free_port(), free_port()
            config = proxy(host, kind, app, admin, port, entrance, collector.port, REPORTS[name])
            processes.envoy(app, envoy, config, admin)
            entrance = port
        found = {"exports": {}}
        for nth, path in enumerate(REQUESTS):
            headers = {"host": "reviews.example", "user-agent": "test", "x-user-id": "zoe"}
            try:
                get(f"http://127.0.0.1:{entrance}{path}", headers)
            except urllib.error.HTTPError as error:
                check(error.code == 503 and "fail" in path, f"{path}: {error}")
            found["exports"][path] = exported(collector, nth * SPANS, SPANS)
        if jaeger:
            found["answers"] = judge(jaeger, name, host)
            if kiali:
                asked_by_kiali(jaeger, name, kiali)
        compare(f"{host}-{name}", found)


def main():
    envoys, program, kiali = [*sys.argv[1:], None, None][:3]
    os.environ["ENVOY_DYNAMIC_MODULES_SEARCH_PATH"] = "dist"
    for which in envoys.split(","):
        host, version, envoy = which.split("=")
        for name in REPORTS:
            run(host, version, envoy, name, program, kiali)
        what = f"services, dependencies, searches, Kiali's questions{', its own code' if kiali else ''}" if program else "what Jaeger was given in the fixture"
        print(f"==> Jaeger, {host}, Envoy {version}: {what}", file=sys.stderr)


main()
