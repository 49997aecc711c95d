"""The mesh of a case, as its resources, and the istiod that serves it."""

import json
import os
import urllib.error

import discovery_api
import yaml
from discovery_cases import ARRIVALS, MANIFESTS
from example import address, check
from parts import free_port, get, wait_for

ROOT, HERE = "istio-system", "default"
# Where a sidecar listens for what its application sends; one of a test's own, so that ports of Istio's names are free.
OUTSIDE = "127.77.15.1"
APP = "app.default.svc.cluster.local"
COLLECTORS = [("collector", HERE), ("otel-collector", "observability")]


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

    # Filters of Istio's own Envoy that istiod leaves out when it is told to, and what else it is told.
    environment = {"PILOT_ENABLE_METADATA_EXCHANGE": "false", "PILOT_ENABLE_ALPN_FILTER": "false"}

    def __init__(self, case, back):
        self.case, self.back = case, back
        self.outside, self.inside = free_port(), free_port()
        self.xds, self.admin = free_port(), free_port()

    def start(self, processes, envoy):
        """The proxy, and what stands beside it."""
        processes.envoy("envoy", envoy, json.dumps(self.bootstrap()), self.admin)

    def close(self):
        """Ends what is not a process."""

    def collectors(self):
        for name, namespace in COLLECTORS:
            ports = {"http-zipkin": 9411, "http-otlp": 4318}
            spec = service(f"{name}.{namespace}.svc.cluster.local", ports, self.back.port)
            yield resource("networking", "ServiceEntry", name, namespace, spec)

    def mesh(self):
        here = self.back.port
        target = self.inside if self.case.kind == "sidecar" else here
        app = service(APP, {"http": self.outside}, target)
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
        route = {"destination": {"host": APP, "port": {"number": self.outside}}}
        routes = {"hosts": ["*"], "gateways": ["edge"], "http": [{"route": [route]}]}
        return [
            *self.collectors(),
            resource("networking", "ServiceEntry", "app", HERE, app),
            resource("networking", "Sidecar", "default", HERE, sidecar),
            resource("networking", "Gateway", "edge", HERE, gateway),
            resource("networking", "VirtualService", "app", HERE, routes),
            resource("security", "PeerAuthentication", "plain", ROOT, {"mtls": {"mode": "DISABLE"}}),
        ]

    def documents(self):
        log = yaml.safe_load((MANIFESTS / "access-log/telemetry.yaml").read_text())
        log["metadata"]["namespace"] = ROOT
        found = [*self.mesh(), log, *self.case.documents()]
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
            # It would write addresses into the services.
            "PILOT_ENABLE_IP_AUTOALLOCATE": "false",
            **self.environment,
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
