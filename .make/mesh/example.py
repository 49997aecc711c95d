"""What the tests of examples on real Envoys share: the examples' files with ports of this machine, servers that keep what
they are sent, and spans."""

import gzip
import json
import pathlib
import re
import sys

import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from servers import Quiet, address, check, cluster, serve

sys.path.append(str(pathlib.Path(__file__).parents[1]))

from parts import free_port, wait_for  # noqa: E402  # the folder above is no package

__all__ = ["Quiet", "address", "check", "cluster", "serve"]

SERVER, CLIENT = 2, 3
HTTP2 = {
    "typed_extension_protocol_options": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
}


class Span:
    """A span as it was exported, with its attributes and those of its resource as texts."""

    def __init__(self, span, resource):
        self.trace_id, self.span_id = span.trace_id.hex(), span.span_id.hex()
        self.parent_id, self.kind, self.name = span.parent_span_id.hex(), span.kind, span.name
        self.tracestate, self.flags = span.trace_state, span.flags
        self.is_error = span.status.code == span.status.STATUS_CODE_ERROR
        self.attributes, self.resource = texts(span.attributes), texts(resource.attributes)

    def __repr__(self):
        return f"{self.kind} {self.trace_id} {self.span_id} <- {self.parent_id} {self.attributes} {self.resource}"


def texts(attributes):
    def text(value):
        kind = value.WhichOneof("value")
        return str(getattr(value, kind)) if kind else ""

    return {attribute.key: text(attribute.value) for attribute in attributes}


def spans_of(body):
    """The spans of an export of OTLP."""
    message = ExportTraceServiceRequest()
    message.ParseFromString(body)
    for group in message.resource_spans:
        for scope in group.scope_spans:
            yield from (Span(span, group.resource) for span in scope.spans)


class Collector:
    """Takes OTLP over HTTP, and keeps every span."""

    def __init__(self, port=0):
        spans, self.encodings = [], set()
        self.spans = spans
        encodings = self.encodings

        class Handler(Quiet):
            def do_POST(self):
                body = self.body()
                encodings.add(self.headers.get("content-encoding"))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                spans.extend(spans_of(body))
                self.answer()

        self.port = serve(Handler, port)

    def of(self, trace_id):
        return [span for span in list(self.spans) if span.trace_id == trace_id]

    def trace(self, trace_id, count):
        """The spans of a trace, when there are as many."""
        return wait_for(f"trace {trace_id} of {count} spans", lambda: (self.of(trace_id) if len(self.of(trace_id)) >= count else None))


class Application:
    """Answers with its name, and keeps the headers that it was sent. The status may be a function of the path."""

    def __init__(self, name, status=200, port=0):
        requests = []
        self.name, self.requests = name, requests

        class Handler(Quiet):
            def do_GET(self):
                requests.append((self.path, {key.lower(): value for key, value in self.headers.items()}))
                self.answer(status(self.path) if callable(status) else status, f"{name}\n".encode())

        self.port = serve(Handler, port)

    def asked(self, path):
        """The headers of each request of this path."""
        return [headers for at, headers in list(self.requests) if at == path]


def with_ports(path, ports, log=None):
    """The configuration in `path`, as `moved` makes it."""
    return moved(yaml.safe_load(pathlib.Path(path).read_text()), ports, log)


def moved(tree, ports, log=None):
    """A configuration with its ports changed: to those of `ports`, else to free ones, which are added to it.

    An access log on standard output goes to the file `log`.
    """
    if isinstance(tree, dict):
        changed = {key: moved(value, ports, log) for key, value in tree.items()}
        if "port_value" in tree:
            if tree["port_value"] not in ports:
                ports[tree["port_value"]] = free_port()
            changed["port_value"] = ports[tree["port_value"]]
        if log and tree.get("path") == "/dev/stdout":
            changed["path"] = str(log)
        return changed
    return [moved(value, ports, log) for value in tree] if isinstance(tree, list) else tree


def of_istio(path, ports):
    """A connection manager as Istio rendered it, in a configuration of a plain Envoy, and its place.

    The ports are those of the examples. `ports` has those of clusters, by a part of their names; the others are at 8080.
    """
    made = json.loads(path.read_text())
    manager, extensions = made["manager"], made["extensions"]
    filters = []
    for one in manager["httpFilters"]:
        if one.pop("configDiscovery", None):
            one["typedConfig"] = extensions[one["name"]]["typedConfig"]
        # Istio's own, which a plain Envoy does not have.
        if not one["name"].startswith("istio.") and "istio" not in one["typedConfig"].get("typeUrl", ""):
            filters.append(one)
    manager["httpFilters"] = filters
    if manager.pop("rds", None):
        manager["routeConfig"] = made["routes"][0]
        manager["routeConfig"].pop("@type", None)
    filters = "type.googleapis.com/envoy.extensions.filters"
    manager["@type"] = f"{filters}.network.http_connection_manager.v3.HttpConnectionManager"
    fields = {name: f"%FILTER_STATE(wasm.{name}:PLAIN)%" for name in ("trace_id", "span_id", "parent_span_id")}
    log = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
    form = {"json_format": {"path": "%REQ(:PATH)%", "response_code": "%RESPONSE_CODE%", **fields}}
    typed = {"@type": log, "path": "/dev/stdout", "log_format": form}
    manager["accessLog"] = [{"name": "file", "typed_config": typed}]
    kind = {"gateway": "router", "waypoint": "waypoint"}.get(made["place"], "sidecar")
    names = {name for name, _ in re.findall(r'"((outbound|inbound)\|[^"]*)"', json.dumps(manager))}
    clusters = []
    for name in sorted(names | {"outbound|4318||otel-collector.observability.svc.cluster.local"}):
        port = next((port for part, port in [*ports, ("otel-collector", 4318)] if part in name), 8080)
        address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}
        clusters.append({"name": name, "load_assignment": assignment, **(HTTP2 if port == 9000 else {})})
    return made["place"], {
        "node": {"id": f"{kind}~10.0.0.1~shop-1.default~default.svc.cluster.local", "cluster": "shop.default"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 9901}}},
        "static_resources": {
            "listeners": [
                {
                    "name": "ingress",
                    "traffic_direction": made["direction"],
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": 10000}},
                    "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
                }
            ],
            "clusters": clusters,
        },
    }


def lines(log):
    """The lines of an access log in JSON that are whole."""
    text = log.read_text() if log.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1] if line.startswith("{")]
