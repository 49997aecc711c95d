"""zipkin.py <jar> <envoys> [<jaeger>]: one request through a mesh on B3 with applications on W3C, in a real Zipkin and Jaeger.

The way of the request: a gateway, the storefront's sidecar, the storefront, its sidecar again, payments' sidecar, payments.
The proxies have Envoy's Zipkin tracer with its default, B3. The applications have OpenTelemetry's SDK with its default, W3C.
Every export goes to Zipkin, and to the port of Jaeger that is for Zipkin's clients. <envoys>: version=program, by commas.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from servers import Quiet, check, serve

sys.path.append(str(pathlib.Path(__file__).parents[1]))
sys.path.append(str(pathlib.Path(__file__).parents[1] / "jaeger"))

from parts import Processes, free_port, get, wait_for  # noqa: E402  # the folder above is no package
from server import Jaeger, tags_of  # noqa: E402

SPANS = 7  # Four of the proxies, three of the applications.


def post(url, body):
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        answer.read()


def relay(ports):
    """A port of which every export goes to all of these."""

    class Handler(Quiet):
        def do_POST(self):
            body = self.body()
            for port in ports:
                post(f"http://127.0.0.1:{port}{self.path}", body)
            self.answer(202)

    return serve(Handler)


class ToZipkin(SpanExporter):
    """Zipkin takes no OTLP, and the SDK has no exporter for it any more."""

    def __init__(self, url, service):
        self.url, self.service = url, service

    def export(self, spans):
        body = [
            {
                "traceId": f"{span.context.trace_id:032x}",
                "id": f"{span.context.span_id:016x}",
                "parentId": f"{span.parent.span_id:016x}" if span.parent else None,
                "name": span.name,
                "kind": span.kind.name,
                "timestamp": span.start_time // 1000,
                "duration": (span.end_time - span.start_time) // 1000 or 1,
                "localEndpoint": {"serviceName": self.service},
            }
            for span in spans
        ]
        post(self.url, json.dumps(body).encode())
        return SpanExportResult.SUCCESS


def application(service, spans_url, port, following):
    """Serves with the SDK's default propagation, and calls what comes next, where there is something."""
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(SimpleSpanProcessor(ToZipkin(spans_url, service)))
    tracer = provider.get_tracer("test")

    class Handler(Quiet):
        def do_GET(self):
            context = propagate.extract({name.lower(): value for name, value in self.headers.items()})
            with tracer.start_as_current_span("GET", context=context, kind=trace.SpanKind.SERVER):
                if following:
                    with tracer.start_as_current_span("call", kind=trace.SpanKind.CLIENT):
                        headers = {}
                        propagate.inject(headers)
                        get(f"http://127.0.0.1:{following}/", headers)
            self.answer()

    serve(Handler, port)


def indented(text, by):
    return "".join(f"{' ' * by}{line}\n" for line in text.splitlines())


def pieces(version):
    """The router and the early header mutation, as `meshtrace render` writes them."""
    command = ["dist/meshtrace", "render", "trace-context", "--envoy", version, "--tracer", "zipkin"]
    rendered = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return "".join(part for part in rendered.split("---\n"))


PLAIN = """http_filters:
- name: envoy.filters.http.router
  typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
"""


def listener(name, port, following, filters, direction):
    return f"""  - name: {name}
    traffic_direction: {direction}
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          tracing:
            random_sampling: {{value: 100}}
            provider:
              name: envoy.tracers.zipkin
              typed_config:
                "@type": type.googleapis.com/envoy.config.trace.v3.ZipkinConfig
                collector_cluster: zipkin
                collector_endpoint: /api/v2/spans
                collector_endpoint_version: HTTP_JSON
                trace_id_128bit: true
                shared_span_context: false
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: /}}
                route: {{cluster: "{following}"}}
{indented(filters, 10)}"""


def cluster(name, port):
    return f"""  - name: "{name}"
    load_assignment:
      cluster_name: "{name}"
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}
"""


def start_proxies(processes, program, zipkin, filters, apps):
    """Starts every proxy of the mesh, each with a service name of its own. Returns the gateway's port, and that of the
    storefront's way out."""
    gateway, storefront_in, storefront_out, payments_in = (free_port() for _ in range(4))
    for service, ways in [
        ("gateway", [("in", gateway, storefront_in, "OUTBOUND")]),
        (
            "storefront-proxy",
            [("in", storefront_in, apps[0], "INBOUND"), ("out", storefront_out, payments_in, "OUTBOUND")],
        ),
        ("payments-proxy", [("in", payments_in, apps[1], "INBOUND")]),
    ]:
        admin = free_port()
        listeners = "".join(listener(name, port, name, filters, way) for name, port, _, way in ways)
        clusters = "".join(cluster(name, following) for name, _, following, _ in ways)
        config = (
            f"node: {{id: {service}-1, cluster: {service}}}\n"
            f"admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}\n"
            "layered_runtime: {layers: [{name: quick, static_layer: {tracing.zipkin.min_flush_spans: 1}}]}\n"
            f"static_resources:\n  listeners:\n{listeners}  clusters:\n{clusters}{cluster('zipkin', zipkin)}"
        )
        processes.envoy(service, program, config, admin)
    return gateway, storefront_out


def request_through(envoy, folder, exports, filters, backends):
    """Sends one request. Returns, for each back end, the traces that came of it: lists of (service, kind, id, parent)."""
    before = [{spans[0] for spans in backend()} for backend in backends]
    apps = free_port(), free_port()
    folder.mkdir()
    with Processes(folder) as processes:
        gateway, storefront_out = start_proxies(processes, envoy, exports, filters, apps)
        url = f"http://127.0.0.1:{exports}/api/v2/spans"
        application("storefront", url, apps[0], storefront_out)
        application("payments", url, apps[1], None)
        get(f"http://127.0.0.1:{gateway}/checkout")
        answers = []
        for backend, old in zip(backends, before):

            def arrived():
                found = [spans for spans in backend() if spans[0] not in old]
                return found if sum(map(len, found)) == SPANS else None

            answers.append(wait_for(f"{SPANS} spans", arrived))
        return answers


def zipkin_traces(port):
    def ask():
        traces = json.loads(get(f"http://127.0.0.1:{port}/api/v2/traces?limit=1000"))
        return [sorted(map(span, trace)) for trace in traces]

    def span(told):
        return told["localEndpoint"]["serviceName"], told["kind"], told["id"], told.get("parentId")

    return ask


def jaeger_traces(jaeger):
    def ask():
        found = {trace["traceID"]: trace for service in jaeger.ask("services") for trace in jaeger.traces(service)}
        return [sorted(span(told, trace) for told in trace["spans"]) for trace in found.values()]

    def span(told, trace):
        parents = [reference["spanID"] for reference in told["references"] if reference["refType"] == "CHILD_OF"]
        service = trace["processes"][told["processID"]]["serviceName"]
        return service, tags_of(told)["span.kind"].upper(), told["spanID"], next(iter(parents), None)

    return ask


def main():
    jar, envoys = sys.argv[1:3]
    program = (sys.argv[3:] or [None])[0]
    zipkin = free_port()
    with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
        # Without the address it listens on every interface.
        ports = [f"-Darmeria.ports[0].{key}={value}" for key, value in [("ip", "127.0.0.1"), ("protocols[0]", "http")]]
        command = ["java", "-Xmx256m", *ports, f"-Darmeria.ports[0].port={zipkin}", "-jar", jar]
        processes.start("zipkin", command, env=dict(os.environ, QUERY_PORT=str(zipkin)))
        processes.wait_for("answer of Zipkin", lambda: get(f"http://127.0.0.1:{zipkin}/health"))
        names, backends, ports = ["Zipkin"], [zipkin_traces(zipkin)], [zipkin]
        if program:
            jaeger = Jaeger(processes, program)
            names, backends, ports = [*names, "Jaeger"], [*backends, jaeger_traces(jaeger)], [*ports, jaeger.zipkin]
        exports = relay(ports)
        for version, envoy in (which.split("=") for which in envoys.split(",")):
            place = pathlib.Path(folder)
            without = request_through(envoy, place / f"{version}-without", exports, PLAIN, backends)
            joined = request_through(envoy, place / f"{version}-with", exports, pieces(version), backends)
            for name, apart, together in zip(names, without, joined):
                judge(name, apart, together)
            print(f"==> {' and '.join(names)}, Envoy {version}: 3 traces without the filter, 1 with it", file=sys.stderr)


def judge(name, apart, together):
    # The proxies up to the application; the applications; the proxies behind it.
    check(sorted(map(len, apart)) == [2, 2, 3], f"{name}, without the filter: {apart}")
    check(len(together) == 1, f"{name}, with the filter: {together}")
    chain(name, together[0])


def chain(name, spans):
    """Each span is the child of the one before it."""
    expected = [
        ("gateway", "CLIENT"),
        ("storefront-proxy", "SERVER"),
        ("storefront", "SERVER"),
        ("storefront", "CLIENT"),
        ("storefront-proxy", "CLIENT"),
        ("payments-proxy", "SERVER"),
        ("payments", "SERVER"),
    ]
    parent, found = None, []
    for _ in expected:
        children = [span for span in spans if span[3] == parent]
        check(len(children) == 1, f"{name}: {len(children)} children of {parent}: {spans}")
        service, kind, parent, _ = children[0]
        found.append((service, kind))
    check(found == expected, f"{name}: the chain is {found}")


main()
