"""one-file.py <kustomize> <envoy>: each place of examples/one-file in a real Envoy, as the proxy that it is for.

Payments are reported always, health and metrics never, the rest by its ratio, failed and slow requests always; the spans have
the attributes, and the access log has the ids of the span.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.error

import yaml
from example import CLIENT, SERVER, Collector, Quiet, address, check, cluster, serve
from parts import Processes, free_port, get, wait_for

FOLDER = pathlib.Path("examples/one-file")
# A place, the kind of its proxy, and the kinds of the spans of a request.
PLACES = [
    ("namespace", "sidecar", {SERVER}),
    ("workload", "sidecar", {SERVER}),
    ("gateway", "router", {SERVER, CLIENT}),
    ("waypoint", "waypoint", {SERVER}),
]
OTHERS = 200
# Of the probes and the health checks, each as it is asked for; and paths that only begin like them.
NEVER = ["/health", "/healthz/live", "/livez", "/livez/ping?verbose", "/ready", "/readyz?exclude=etcd", "/startupz", "/metrics"]
NEVER += ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", "/health/fail", "/readyz/fail"]
ALIKE = ["/healthy/fail", "/livezone/fail", "/grpc.health.v1.HealthCare/fail"]


def documents(kustomize, form):
    command = [kustomize, "build", str(FOLDER / "overlays" / form)]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


class Shop(Quiet):
    def do_GET(self):
        if self.path.startswith("/slow"):
            time.sleep(1.2)
        self.answer(503 if "fail" in self.path else 200)


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


def send(port, path):
    try:
        get(f"http://127.0.0.1:{port}{path}", {"x-user-id": "zoe", "x-tenant-id": "acme"})
    except urllib.error.HTTPError as error:
        check("fail" in path and error.code == 503, f"{path}: {error}")


def judge(form, kind, kinds, port, spans, log):
    """Sends the requests, and compares what came of them."""

    def of(path):
        return [span for span in list(spans) if span.attributes["url.path"] == path]

    for path in NEVER:
        for _ in range(20):
            send(port, path)
    for _ in range(OTHERS):
        send(port, "/other")
    for path in ["/other/fail", *ALIKE, "/slow"]:
        send(port, path)
    for _ in range(20):
        send(port, "/payments/7")

    # What comes last is the last to be reported.
    wait_for("spans of payments", lambda: len(of("/payments/7")) == 20 * len(kinds))
    for span in of("/payments/7"):
        attributes = span.attributes
        check(span.kind in kinds, f"{form}: kind {span.kind}")
        check(span.resource["service.name"] == "shop.shop", f"{form}: {span}")
        expected = {"deployment.environment.name": "production", "k8s.cluster.name": "cluster-1"}
        # Nobody has checked what a client says of itself at the gateway.
        identity = {"user.id": None, "tenant.id": None} if kind == "router" else {"user.id": "zoe", "tenant.id": "acme"}
        for key, value in {**expected, **identity}.items():
            check(attributes.get(key) == value, f"{form}: {key} is {attributes.get(key)}")
    for path in NEVER:
        check(not of(path.split("?")[0]), f"{form}: {path} is reported")
    for path, reason in [*((path, "error") for path in ["/other/fail", *ALIKE]), ("/slow", "slow")]:
        wait_for(f"span of {path}", lambda: of(path))
        reasons = {span.attributes.get("meshtrace.kept") for span in of(path) if span.kind == SERVER}
        # One of twenty is sampled anyhow, and needs no reason.
        check(reasons <= {reason, None}, f"{form}: {path} is kept for {reasons}")
    # 10 of 200 on average; none, or more than 40, happens in one of ten thousand runs.
    share = len(of("/other")) / len(kinds)
    check(0 < share <= 40, f"{form}: {share} of {OTHERS} other requests are reported")

    lines = wait_for("log lines", lambda: logged(log, "/payments/7", 20))
    ids = {(span.trace_id, span.span_id) for span in of("/payments/7") if span.kind == SERVER}
    check({(line["trace_id"], line["span_id"]) for line in lines} == ids, f"{form}: the log has other ids")


def logged(log, path, count):
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    found = [line for line in lines if line["path"] == path]
    return found if len(found) == count else None


def main():
    kustomize, envoy = sys.argv[1:]
    application = serve(Shop)
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
        collector = Collector()
        with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
            admin, port, log = free_port(), free_port(), pathlib.Path(folder) / "access.log"
            config = proxy(kind, plugin["spec"], admin, port, application, collector.port, log)
            processes.envoy(kind, envoy, config, admin)
            judge(form, kind, kinds, port, collector.spans, log)
    print(f"==> one file: {len(PLACES)} places, each in an Envoy", file=sys.stderr)


main()
