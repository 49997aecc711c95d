"""one-file.py <kustomize> <envoy>: each place of examples/one-file in a real Envoy, as the proxy that it is for.

Payments are reported always, health and metrics never, the rest by its ratio, failed and slow requests always; the spans have
the attributes, and the access log has the ids of the span.
"""

import http.server
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error

import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

sys.path.append(str(pathlib.Path(__file__).parents[1]))

from parts import Processes, free_port, get, wait_for  # noqa: E402  # the folder above is no package

FOLDER = pathlib.Path("examples/one-file")
# A place, the kind of its proxy, and the kinds of the spans of a request.
SERVER, CLIENT = 2, 3
PLACES = [
    ("namespace", "sidecar", {SERVER}),
    ("workload", "sidecar", {SERVER}),
    ("gateway", "router", {SERVER, CLIENT}),
    ("waypoint", "waypoint", {SERVER}),
]
OTHERS = 200


def documents(kustomize, form):
    command = [kustomize, "build", str(FOLDER / "overlays" / form)]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def collector(spans):
    """Puts every span that is exported into the list, with its resource."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            message = ExportTraceServiceRequest()
            message.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
            for of_resource in message.resource_spans:
                resource = texts(of_resource.resource.attributes)
                for scope in of_resource.scope_spans:
                    spans.extend((span, resource) for span in scope.spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    return serve(Handler)


class Application(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/slow"):
            time.sleep(1.2)
        self.send_response(503 if "fail" in self.path else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def texts(attributes):
    return {attribute.key: attribute.value.string_value for attribute in attributes}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name, port):
    endpoint = {"endpoint": {"address": address(port)}}
    return {"name": name, "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}}


def proxy(kind, wasm, admin, port, application, spans_port, log):
    """A proxy with the plugin as istiod writes it, but for the module, which is the local one."""
    variables = {variable["name"]: variable["value"] for variable in wasm["vmConfig"]["env"]}
    config = wasm["pluginConfig"]
    plugin = {
        "name": "mesh_tracing",
        "root_id": wasm["pluginName"],
        "failure_policy": wasm["failStrategy"],
        "vm_config": {
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": "dist/mesh_tracing.wasm"}},
            "environment_variables": {"key_values": variables},
        },
        "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": json.dumps(config)},
    }
    filters = "type.googleapis.com/envoy.extensions.filters"
    fields = {name: f"%FILTER_STATE(wasm.{name}:PLAIN)%" for name in ("trace_id", "span_id")}
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "http_filters": [
            {"name": "mesh_tracing", "typed_config": {"@type": f"{filters}.http.wasm.v3.Wasm", "config": plugin}},
            {"name": "router", "typed_config": {"@type": f"{filters}.http.router.v3.Router"}},
        ],
        "access_log": [
            {
                "name": "file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": str(log),
                    "log_format": {"json_format": {"path": "%REQ(:PATH)%", **fields}},
                },
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]}
            ]
        },
    }
    return json.dumps(
        {
            "node": {
                "id": f"{kind}~10.0.0.1~shop-1.shop~shop.svc.cluster.local",
                "cluster": "shop.shop",
                "metadata": {"NAMESPACE": "shop", "LABELS": {"app": "shop"}},
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
                "clusters": [cluster("app", application), cluster(config["report"]["cluster"], spans_port)],
            },
        }
    )


def check(condition, message):
    if not condition:
        sys.exit(f"error: {message}")


def send(port, path):
    try:
        get(f"http://127.0.0.1:{port}{path}", {"x-user-id": "zoe", "x-tenant-id": "acme"})
    except urllib.error.HTTPError as error:
        check("fail" in path and error.code == 503, f"{path}: {error}")


def judge(form, kind, kinds, port, spans, log):
    """Sends the requests, and compares what came of them."""

    def of(path):
        found = [(texts(span.attributes), span, resource) for span, resource in list(spans)]
        return [entry for entry in found if entry[0]["url.path"] == path]

    for path in ["/health", "/healthz/live", "/ready", "/metrics", "/health/fail"]:
        for _ in range(20):
            send(port, path)
    for _ in range(OTHERS):
        send(port, "/other")
    for path in ["/other/fail", "/slow"]:
        send(port, path)
    for _ in range(20):
        send(port, "/payments/7")

    # What comes last is the last to be reported.
    wait_for("spans of payments", lambda: len(of("/payments/7")) == 20 * len(kinds))
    for attributes, span, resource in of("/payments/7"):
        check(span.kind in kinds, f"{form}: kind {span.kind}")
        check(resource["service.name"] == "shop.shop", f"{form}: {resource}")
        expected = {"deployment.environment.name": "production", "k8s.cluster.name": "cluster-1"}
        # Nobody has checked what a client says of itself at the gateway.
        identity = {"user.id": None, "tenant.id": None} if kind == "router" else {"user.id": "zoe", "tenant.id": "acme"}
        for key, value in {**expected, **identity}.items():
            check(attributes.get(key) == value, f"{form}: {key} is {attributes.get(key)}")
    for path in ["/health", "/healthz/live", "/ready", "/metrics", "/health/fail"]:
        check(not of(path), f"{form}: {path} is reported")
    for path, reason in [("/other/fail", "error"), ("/slow", "slow")]:
        wait_for(f"span of {path}", lambda: of(path))
        reasons = {attributes.get("meshtrace.kept") for attributes, span, _ in of(path) if span.kind == SERVER}
        # One of twenty is sampled anyhow, and needs no reason.
        check(reasons <= {reason, None}, f"{form}: {path} is kept for {reasons}")
    # 10 of 200 on average; none, or more than 40, happens in one of ten thousand runs.
    share = len(of("/other")) / len(kinds)
    check(0 < share <= 40, f"{form}: {share} of {OTHERS} other requests are reported")

    lines = wait_for("log lines", lambda: logged(log, "/payments/7", 20))
    ids = {(span.trace_id.hex(), span.span_id.hex()) for _, span, _ in of("/payments/7") if span.kind == SERVER}
    check({(line["trace_id"], line["span_id"]) for line in lines} == ids, f"{form}: the log has other ids")


def logged(log, path, count):
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    found = [line for line in lines if line["path"] == path]
    return found if len(found) == count else None


def main():
    kustomize, envoy = sys.argv[1:]
    application = serve(Application)
    for form, kind, kinds in PLACES:
        resources = documents(kustomize, f"wasmplugin/{form}")
        check(resources["Telemetry"]["spec"]["tracing"] == [{"disableSpanReporting": True}], f"{form}: Telemetry")
        plugin = resources["WasmPlugin"]
        newer = documents(kustomize, f"trafficextension/{form}")
        spec = dict(newer["TrafficExtension"]["spec"])
        check({**spec.pop("wasm"), **spec} == plugin["spec"], f"{form}: the TrafficExtension says something else")
        check(newer["Telemetry"] == resources["Telemetry"], f"{form}: the TrafficExtension has another Telemetry")
        for key in ["selector", "targetRefs"]:
            check(plugin["spec"].get(key) == resources["Telemetry"]["spec"].get(key), f"{form}: {key}")
        spans = []
        with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
            admin, port, log = free_port(), free_port(), pathlib.Path(folder) / "access.log"
            config = proxy(kind, plugin["spec"], admin, port, application, collector(spans), log)
            processes.envoy(kind, envoy, config, admin)
            judge(form, kind, kinds, port, spans, log)
    print(f"==> one file: {len(PLACES)} places, each in an Envoy", file=sys.stderr)


main()
