"""authz.py <extauthz> [--rendered <folder>] <envoy>…: examples/ext-authz on each of these Envoys, with Istio's own authoriser.

The check names this hop's span, its call carries it, and a denial is logged and reported with its ids. With --rendered it
is what Istio's code made of istio-manifests/ext-authz for its proxies: the first Envoy stands for those of 1.28, the last
for those of 1.31.
"""

import contextlib
import http.client
import json
import pathlib
import re
import socket
import sys
import tempfile

from example import CLIENT, HTTP2, Application, Collector, check, lines, moved, of_istio, with_ports
from parts import Processes, free_port, wait_for

FOLDER = pathlib.Path("examples/ext-authz")
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
# The ports of the examples, by a part of the name of Istio's clusters.
PORTS = [("|9000||ext-authz", 9000), ("|8000||ext-authz", 8000)]
# What a caller may send.
ARRIVALS = {
    "nothing": {},
    "traceparent": {"traceparent": f"00-{TRACE}-{PARENT}-01"},
    "b3 multi": {"x-b3-traceid": TRACE, "x-b3-spanid": PARENT, "x-b3-sampled": "1"},
    "b3": {"b3": f"{TRACE}-{PARENT}-1"},
    "malformed": {"traceparent": "hello"},
    "not sampled": {"traceparent": f"00-{TRACE}-{PARENT}-00"},
}


def ask(port, path, headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    return answer.status, dict(answer.getheaders()), body


def checked(text):
    """The headers of the request in a check, of the text that the authoriser makes of it."""
    return dict(re.findall(r'\{?key:"([^"]+)"\s+value:"([^"]*)"', text))


def in_between(port, authoriser, log):
    """A listener that passes the calls of the check on, and logs their metadata."""
    filters = "type.googleapis.com/envoy.extensions.filters"
    fields = {name: f"%REQ({name})%" for name in (":path", "traceparent", "x-b3-traceid", "x-b3-spanid")}
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "checks",
        "codec_type": "HTTP2",
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{filters}.http.router.v3.Router"}}],
        "access_log": [
            {
                "name": "file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": str(log),
                    "log_format": {"json_format": fields},
                },
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "real-authz"}}],
                }
            ]
        },
    }

    def address(of):
        return {"socket_address": {"address": "127.0.0.1", "port_value": of}}

    listener = {
        "name": "checks",
        "address": address(port),
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
    }
    endpoint = {"endpoint": {"address": address(authoriser)}}
    cluster = {
        "name": "real-authz",
        "load_assignment": {"cluster_name": "real-authz", "endpoints": [{"lb_endpoints": [endpoint]}]},
        **HTTP2,
    }
    return listener, cluster


@contextlib.contextmanager
def running(extauthz, envoy, tree, ports):
    """An Envoy with this configuration, whose checks pass a listener that logs their metadata: that log."""
    with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
        log = pathlib.Path(folder) / "checks.log"
        authoriser, over_http = free_port(), free_port()
        processes.start("extauthz", [extauthz, "-grpc", str(authoriser), "-http", str(over_http)])
        for port in (authoriser, over_http):
            wait_for("authoriser", lambda at=port: socket.create_connection(("127.0.0.1", at)).close() or True)
        listener, cluster = in_between(ports.get(9000) or free_port(), authoriser, log)
        tree["static_resources"]["listeners"].append(listener)
        tree["static_resources"]["clusters"].append(cluster)
        text = json.dumps(tree).replace('"port_value": 8000', f'"port_value": {over_http}')
        processes.envoy("envoy", envoy, text, ports[9901])
        yield log


def run(name, file, extauthz, envoy, native):
    application, collector = Application("application"), Collector()
    ports = {8080: application.port, 4318: collector.port}
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / "access.log"
        tree = with_ports(FOLDER / file, ports, log)
        # A machine that compiles meanwhile does not answer within the example's second.
        authoriser_of(tree)["grpc_service"]["timeout"] = "20s"
        with running(extauthz, envoy, tree, ports) as checks:
            seen = 0
            for arrival, headers in ARRIVALS.items():
                for verdict in ("allow", "deny"):
                    path = f"/{arrival.replace(' ', '-')}/{verdict}"
                    at = f"{name}: {path}"
                    told = verdict_of(at, ports[10000], path, verdict, headers, application)
                    judge(at, checked(told), headers, path, collector, log, checks, native, seen)
                    seen += 1
    return seen


def verdict_of(at, port, path, verdict, headers, application):
    """Sends a request; what the authoriser was told, as it says itself."""
    status, answered, body = ask(port, path, {**headers, "x-ext-authz": verdict})
    check(status == (200 if verdict == "allow" else 403), f"{at}: {status} {body}")
    if verdict == "deny":
        check(not application.asked(path), f"{at}: a denied request reached the application")
        check(body.startswith("denied by ext_authz"), f"{at}: {body}")
        return answered["x-ext-authz-check-received"]
    [received] = application.asked(path)
    return received.get("x-ext-authz-check-received", "")


def judge(at, request, headers, path, collector, log, checks, native, seen):
    """Compares the check, its call, the log line and the span of one request."""
    joined = TRACE in "".join(headers.values())
    line = wait_for(f"line of {path}", lambda: next((line for line in lines(log) if line["path"] == path), None))
    check(line["response_code"] == (200 if path.endswith("allow") else 403), f"{at}: {line}")
    call = wait_for(f"check {seen + 1}", lambda: lines(checks)[seen] if len(lines(checks)) > seen else None)
    check(call[":path"] == "/envoy.service.auth.v3.Authorization/Check", f"{at}: {call}")
    _, trace_id, of_call, flags = call["traceparent"].split("-")
    check((trace_id == TRACE) == joined, f"{at}: the call is of trace {trace_id}")
    check(flags == ("00" if path.startswith("/not-sampled") else "01"), f"{at}: flags {flags}")
    check(line["trace_id"] == trace_id, f"{at}: the log has {line}, the call {call}")
    if native:
        # A tracer writes when a request leaves: the check shows the caller's headers as they came.
        shown = {name: value for name, value in request.items() if name in ("traceparent", "b3") or name.startswith("x-b3")}
        check(shown == headers, f"{at}: the check names {shown}")
    else:
        context = f"00-{trace_id}-{line['span_id']}-{flags}"
        check(request["traceparent"] == call["traceparent"] == context, f"{at}: {request}, {call}, {line}")
        b3 = [request["x-b3-traceid"], request["x-b3-spanid"], request["x-b3-sampled"]]
        check(b3 == [trace_id, line["span_id"], flags[1]], f"{at}: B3 of the check is {b3}")
        check(line["span_id"] != PARENT, f"{at}: the log has the caller's span")
        check(line["parent_span_id"] == (PARENT if joined else None), f"{at}: {line}")
    if flags == "00":
        return

    # The caller's trace has the spans of other requests too.
    def ours():
        return [span for span in collector.of(trace_id) if span.attributes.get("url.path") == path]

    [server] = wait_for(f"span of {path}", ours)
    check(line["span_id"] == server.span_id, f"{at}: the log has {line}, exported was {server}")
    check(server.parent_id == (PARENT if joined else ""), f"{at}: {server}")
    check(server.attributes["http.response.status_code"] == str(line["response_code"]), f"{at}: {server}")
    if native:
        # The check is a span of its own, and its call carries it.
        of_check = wait_for("span of the check", lambda: [s for s in collector.of(trace_id) if s.span_id == of_call])[0]
        check(of_check.parent_id == server.span_id and of_check.kind == CLIENT, f"{at}: {of_check} below {server}")
        # A denial is an answer, and no error of the call.
        check(not of_check.is_error and "error.type" not in of_check.attributes, f"{at}: {of_check}")


def authoriser_of(tree):
    manager = tree["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return next(one for one in manager["http_filters"] if one["name"].endswith("ext_authz"))["typed_config"]


def without_metadata(extauthz, envoy):
    """What the page says of a check whose call has no metadata of its own: it carries no trace."""
    ports = {}
    tree = with_ports(FOLDER / "envoy.yaml", ports)
    check(authoriser_of(tree)["grpc_service"].pop("initial_metadata"), "the example has metadata")
    with running(extauthz, envoy, tree, ports) as checks:
        status, answered, _ = ask(ports[10000], "/", {"x-ext-authz": "deny"})
        check(status == 403 and checked(answered["x-ext-authz-check-received"])["traceparent"], "a check")
        call = wait_for("check", lambda: next(iter(lines(checks)), None))
        check(not call["traceparent"] and not call["x-b3-traceid"], f"without metadata the call carries {call}")


def over_http(extauthz, envoy):
    """An authoriser that is asked over HTTP is told the headers that are named: this hop's span."""
    application, ports = Application("application"), {}
    ports[8080] = application.port
    tree = with_ports(FOLDER / "envoy.yaml", ports)
    filter_ = authoriser_of(tree)
    del filter_["grpc_service"]
    named = [{"exact": name} for name in ("x-ext-authz", "traceparent", "x-b3-traceid", "x-b3-spanid")]
    filter_["allowed_headers"] = {"patterns": named}
    filter_["http_service"] = {"server_uri": {"uri": "http://authz", "cluster": "authz-http", "timeout": "1s"}}
    filter_["http_service"]["authorization_response"] = {"allowed_client_headers": {"patterns": [{"prefix": "x-ext-authz"}]}}
    endpoint = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 8000}}}}
    assignment = {"cluster_name": "authz-http", "endpoints": [{"lb_endpoints": [endpoint]}]}
    tree["static_resources"]["clusters"].append({"name": "authz-http", "load_assignment": assignment})
    with running(extauthz, envoy, tree, ports):
        told = verdict_of("over HTTP", ports[10000], "/", "deny", ARRIVALS["b3"], application)
        trace = re.search(r"Traceparent:\[00-(\w+)-(\w+)-01\]", told)
        check(trace and trace[1] == TRACE and trace[2] != PARENT, f"over HTTP: {told}")
        check(f"X-B3-Spanid:[{trace[2]}]" in told, f"over HTTP: {told}")


def run_rendered(path, extauthz, envoy):
    """A denial in a proxy as Istio configures it: the check, its call, the log and the span are of one trace."""
    application, collector = Application("application"), Collector()
    place, tree = of_istio(path, PORTS)
    grpc = path.stem.endswith("-grpc")
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / "access.log"
        ports = {8080: application.port, 4318: collector.port, 8000: 8000}
        tree = moved(tree, ports, log)
        with running(extauthz, envoy, tree, ports) as checks:
            told = verdict_of(path.stem, ports[10000], "/", "deny", ARRIVALS["traceparent"], application)
            line = wait_for("line", lambda: next(iter(lines(log)), None))
            # A gateway's file believes no client.
            check((line["trace_id"] == TRACE) == (place != "gateway"), f"{path.stem}: {line}")
            check(line["response_code"] == 403, f"{path.stem}: {line}")
            shown = re.search(r'traceparent"?\s*(?:value:"|:\[)00-(\w+)-(\w+)-', told, re.IGNORECASE)
            # A gateway reports two spans, and what goes on names its CLIENT span.
            name = "x-b3-parentspanid" if place == "gateway" else "x-b3-spanid"
            b3 = re.search(name + r'"?\s*(?:value:"|:\[)(\w+)', told, re.IGNORECASE)
            ids = [line["trace_id"], line["span_id"]]
            check(shown and b3 and [shown[1], b3[1]] == ids, f"{path.stem}: {line}, {told}")
            if grpc:
                call = wait_for("check", lambda: next(iter(lines(checks)), None))
                context = call["traceparent"].split("-")[1:3]
                check(context == [line["trace_id"], line["span_id"]], f"{path.stem}: {line}, {call}")
            if place != "gateway":
                [span] = collector.trace(TRACE, 1)
                check(span.span_id == line["span_id"] and span.parent_id == PARENT, f"{path.stem}: {line}, {span}")


def main():
    extauthz, *envoys = sys.argv[1:]
    if envoys[0] == "--rendered":
        _, folder, *envoys = envoys
        seen = 0
        for path in sorted(pathlib.Path(folder).glob("*.json")):
            version = path.stem.split("_")[1]
            envoy = {"1.28": envoys[0], "1.31": envoys[-1]}.get(version[:4])
            if envoy and (version[:4] == "1.31" or path.stem.endswith("-grpc")):
                run_rendered(path, extauthz, envoy)
                seen += 1
        # Three places; over gRPC in two versions, over HTTP in one.
        check(seen == 9, f"only {seen} were rendered")
        print(f"==> ext_authz: {seen} proxies as Istio configures them", file=sys.stderr)
        return
    seen = 0
    for envoy in envoys:
        seen += run(f"Wasm on {envoy}", "envoy.yaml", extauthz, envoy, native=False)
    seen += run(f"native on {envoys[-1]}", "envoy-native.yaml", extauthz, envoys[-1], native=True)
    without_metadata(extauthz, envoys[-1])
    over_http(extauthz, envoys[-1])
    print(f"==> ext_authz: {seen} checks", file=sys.stderr)


main()
