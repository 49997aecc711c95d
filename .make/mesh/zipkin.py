"""zipkin.py <jar> <envoy> <version> <meshtrace>: one request through a mesh on B3 with applications on W3C, in a real Zipkin.

The way of the request: a gateway, the storefront's sidecar, the storefront, its sidecar again, payments' sidecar, payments.
The proxies have Envoy's Zipkin tracer with its default, B3. The applications have OpenTelemetry's SDK with its default, W3C.
"""

import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import urllib.request

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

sys.path.append(str(pathlib.Path(__file__).parents[1]))

from parts import Processes, free_port, get, wait_for  # noqa: E402  # the folder above is no package


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
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        urllib.request.urlopen(request, timeout=20).read()
        return SpanExportResult.SUCCESS


def application(service, spans_url, port, following):
    """Serves with the SDK's default propagation, and calls what comes next, where there is something."""
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(SimpleSpanProcessor(ToZipkin(spans_url, service)))
    tracer = provider.get_tracer("test")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            context = propagate.extract({name.lower(): value for name, value in self.headers.items()})
            with tracer.start_as_current_span("GET", context=context, kind=trace.SpanKind.SERVER):
                if following:
                    with tracer.start_as_current_span("call", kind=trace.SpanKind.CLIENT):
                        headers = {}
                        propagate.inject(headers)
                        get(f"http://127.0.0.1:{following}/", headers)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def indented(text, by):
    return "".join(f"{' ' * by}{line}\n" for line in text.splitlines())


def pieces(meshtrace, version):
    """The router and the early header mutation, as `meshtrace render` writes them."""
    command = [meshtrace, "render", "trace-context", "--envoy", version, "--tracer", "zipkin"]
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


def traces_of_one_request(envoy, folder, zipkin, filters):
    """The traces in Zipkin after one request, each a list of spans."""
    everything = f"http://127.0.0.1:{zipkin}/api/v2/traces?limit=1000"
    before = {spans[0]["traceId"] for spans in json.loads(get(everything))}
    apps = free_port(), free_port()
    folder.mkdir()
    with Processes(folder) as processes:
        gateway, storefront_out = start_proxies(processes, envoy, zipkin, filters, apps)
        url = f"http://127.0.0.1:{zipkin}/api/v2/spans"
        application("storefront", url, apps[0], storefront_out)
        application("payments", url, apps[1], None)
        get(f"http://127.0.0.1:{gateway}/checkout")

        def arrived():
            found = [spans for spans in json.loads(get(everything)) if spans[0]["traceId"] not in before]
            # Four of the proxies, three of the applications.
            return found if sum(map(len, found)) == 7 else None

        return wait_for("seven spans", arrived)


def services(spans):
    return sorted(f"{span['localEndpoint']['serviceName']} {span['kind']}" for span in spans)


def main():
    jar, envoy, version, meshtrace = sys.argv[1:]
    zipkin = free_port()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        command = ["java", "-Xmx256m", "-Darmeria.ports[0].ip=127.0.0.1", f"-Darmeria.ports[0].port={zipkin}"]
        # Zipkin itself listens on every interface unless it is told otherwise.
        command += ["-Darmeria.ports[0].protocols[0]=http", "-jar", jar]
        with Processes(folder) as processes:
            processes.start("zipkin", command, env=dict(os.environ, QUERY_PORT=str(zipkin)))
            wait_for("Zipkin", lambda: get(f"http://127.0.0.1:{zipkin}/health"))
            without = traces_of_one_request(envoy, folder / "without", zipkin, PLAIN)
            joined = traces_of_one_request(envoy, folder / "with", zipkin, pieces(meshtrace, version))
    told = [services(spans) for spans in without]
    # The proxies up to the application; the applications; the proxies behind it.
    if sorted(map(len, told)) != [2, 2, 3]:
        sys.exit(f"error: without the filter: {told}")
    if len(joined) != 1:
        sys.exit(f"error: with the filter: {[services(spans) for spans in joined]}")
    chain(joined[0])
    print(f"==> Zipkin, Envoy {version}: {len(without)} traces without the filter, one with it", file=sys.stderr)


def chain(spans):
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
        children = [span for span in spans if span.get("parentId") == parent]
        if len(children) != 1:
            sys.exit(f"error: {len(children)} children of {parent}: {services(spans)}")
        found.append((children[0]["localEndpoint"]["serviceName"], children[0]["kind"]))
        parent = children[0]["id"]
    if found != expected:
        sys.exit(f"error: the chain is {found}")


main()
