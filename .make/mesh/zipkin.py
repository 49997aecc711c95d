"""zipkin.py <jar> <envoy> <version> <meshtrace>: one request through a mesh on B3 with applications on W3C, in a real Zipkin.

The way of the request: a gateway, the storefront's sidecar, the storefront, its sidecar again, payments' sidecar, payments.
The proxies have Envoy's Zipkin tracer with its default, B3. The applications have OpenTelemetry's SDK with its default, W3C.
"""

import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

WAIT = 120


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(url, headers=None):
    request = urllib.request.Request(url, headers=headers or {})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read().decode()


def wait_for(what, test):
    """Calls `test` until it returns something."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        try:
            found = test()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.2)
    sys.exit(f"error: no {what} within {WAIT} seconds")


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


class Proxies:
    """Every proxy of the mesh, each a process with a service name of its own."""

    def __init__(self, program, folder, zipkin, filters, apps):
        self.processes = []
        self.gateway = free_port()
        storefront_in, storefront_out, payments_in = free_port(), free_port(), free_port()
        storefront, payments = apps
        self.start(program, folder, zipkin, filters, "gateway", [("in", self.gateway, storefront_in, "OUTBOUND")])
        ways = [("in", storefront_in, storefront, "INBOUND"), ("out", storefront_out, payments_in, "OUTBOUND")]
        self.start(program, folder, zipkin, filters, "storefront-proxy", ways)
        self.start(program, folder, zipkin, filters, "payments-proxy", [("in", payments_in, payments, "INBOUND")])
        self.storefront_out = storefront_out

    def start(self, program, folder, zipkin, filters, service, ways):
        admin = free_port()
        listeners = "".join(listener(name, port, name, filters, way) for name, port, _, way in ways)
        clusters = "".join(cluster(name, following) for name, _, following, _ in ways)
        config = folder / f"{service}.yaml"
        config.write_text(
            f"node: {{id: {service}-1, cluster: {service}}}\n"
            f"admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}\n"
            "layered_runtime: {layers: [{name: quick, static_layer: {tracing.zipkin.min_flush_spans: 1}}]}\n"
            f"static_resources:\n  listeners:\n{listeners}  clusters:\n{clusters}{cluster('zipkin', zipkin)}"
        )
        log = open(folder / f"{service}.log", "w")
        command = [program, "--config-path", str(config), "--use-dynamic-base-id", "--concurrency", "1"]
        self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))

        def ready():
            if self.processes[-1].poll() is not None:
                sys.exit(f"error: Envoy has ended: {(folder / f'{service}.log').read_text()[-2000:]}")
            return get(f"http://127.0.0.1:{admin}/ready")

        wait_for("Envoy", ready)

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
            process.wait()


def traces_of_one_request(envoy, folder, zipkin, filters):
    """The traces in Zipkin after one request: for each its spans, by their ids."""
    before = {trace[0]["traceId"] for trace in json.loads(get(f"http://127.0.0.1:{zipkin}/api/v2/traces?limit=1000"))}
    apps = free_port(), free_port()
    folder.mkdir()
    proxies = Proxies(envoy, folder, zipkin, filters, apps)
    url = f"http://127.0.0.1:{zipkin}/api/v2/spans"
    try:
        application("storefront", url, apps[0], proxies.storefront_out)
        application("payments", url, apps[1], None)
        get(f"http://127.0.0.1:{proxies.gateway}/checkout")

        def arrived():
            found = json.loads(get(f"http://127.0.0.1:{zipkin}/api/v2/traces?limit=1000"))
            found = [spans for spans in found if spans[0]["traceId"] not in before]
            # Four of the proxies, three of the applications.
            return found if sum(map(len, found)) == 7 else None

        return wait_for("seven spans", arrived)
    finally:
        proxies.stop()


def services(spans):
    return sorted(f"{span['localEndpoint']['serviceName']} {span['kind']}" for span in spans)


def main():
    jar, envoy, version, meshtrace = sys.argv[1:]
    zipkin = free_port()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        environment = dict(os.environ, QUERY_PORT=str(zipkin), JAVA_OPTS="")
        log = open(folder / "zipkin.log", "w")
        # Zipkin itself listens on every interface unless it is told otherwise.
        command = ["java", "-Xmx256m", "-Darmeria.ports[0].ip=127.0.0.1", f"-Darmeria.ports[0].port={zipkin}"]
        command += ["-Darmeria.ports[0].protocols[0]=http", "-jar", jar]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            wait_for("Zipkin", lambda: get(f"http://127.0.0.1:{zipkin}/health"))
            without = traces_of_one_request(envoy, folder / "without", zipkin, PLAIN)
            filters = pieces(meshtrace, version)
            joined = traces_of_one_request(envoy, folder / "with", zipkin, filters)
        finally:
            server.terminate()
            server.wait()
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
