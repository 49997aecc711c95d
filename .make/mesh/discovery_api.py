"""A small Kubernetes API for one istiod: it lists the resources that it was given, and nothing ever changes in it."""

import http.server
import json
import threading

CRDS = "customresourcedefinitions"
# The plural of each kind that is served. istiod watches a kind when its definition is there.
KINDS = {
    "gateway.networking.k8s.io": {"Gateway": "gateways", "GatewayClass": "gatewayclasses"},
    "extensions.istio.io": {"TrafficExtension": "trafficextensions", "WasmPlugin": "wasmplugins"},
    "networking.istio.io": {
        "DestinationRule": "destinationrules",
        "EnvoyFilter": "envoyfilters",
        "Gateway": "gateways",
        "ServiceEntry": "serviceentries",
        "Sidecar": "sidecars",
        "VirtualService": "virtualservices",
    },
    "security.istio.io": {"PeerAuthentication": "peerauthentications"},
    "telemetry.istio.io": {"Telemetry": "telemetries"},
}
CORE = {"Namespace": "namespaces"}


def plural(document):
    """The group and the plural of a resource."""
    group, slash, _ = document["apiVersion"].partition("/")
    return (group, KINDS[group][document["kind"]]) if slash else ("", CORE[document["kind"]])


def complete(document, number):
    """The resource with what a server adds."""
    metadata = {"uid": f"uid-{number}", "resourceVersion": str(number), "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {**document, "metadata": {**metadata, "generation": 1, **document["metadata"]}}


def store(documents):
    """The resources by group and plural, with the definitions of their kinds."""
    resources = {}
    for number, document in enumerate(documents, 1):
        resources.setdefault(plural(document), []).append(complete(document, number))
    names = [f"{name}.{group}" for group, kinds in KINDS.items() for name in kinds.values()]
    kind = {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata"}
    # istiod reads no kind of the Gateway API whose version it does not know.
    versions = {"gateway.networking.k8s.io/bundle-version": "v1.4.0"}
    resources["apiextensions.k8s.io", CRDS] = [
        complete({**kind, "metadata": {"name": name, "annotations": versions}}, number)
        for number, name in enumerate(names, 1)
    ]
    return resources


def serve(documents):
    """Serves them on loopback, and returns the port."""
    resources = store(documents)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status, body):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            path, _, query = self.path.partition("?")
            parts = path.strip("/").split("/")
            if parts == ["version"]:
                return self.answer(200, {"major": "1", "minor": "35", "gitVersion": "v1.35.3"})
            # api/v1/… or apis/GROUP/VERSION/…
            group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
            namespace = None
            if rest[:1] == ["namespaces"] and len(rest) > 2:
                namespace, rest = rest[1], rest[2:]
            if len(rest) != 1:
                status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
                return self.answer(404, status)
            if "watch=" in query:
                return self.watch()
            found = resources.get((group, rest[0]), [])
            if namespace:
                found = [item for item in found if item["metadata"].get("namespace") == namespace]
            listed = {"metadata": {"resourceVersion": "1000"}, "items": found}
            if "as=PartialObjectMetadataList" in self.headers.get("accept", ""):
                listed.update(apiVersion="meta.k8s.io/v1", kind="PartialObjectMetadataList")
            self.answer(200, listed)

        def watch(self):
            # The stream stays open until the other side ends it, and no event comes.
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            self.wfile.flush()
            self.rfile.read(1)
            self.close_connection = True

        def echo(self):
            # Leases and the like: what is written is accepted, and forgotten.
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            try:
                self.answer(201, json.loads(body))
            except ValueError:
                self.answer(415, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 415})

        do_POST = do_PUT = do_PATCH = echo

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port
