"""traffic.py [--rendered <folder>] <envoy>…: examples/traffic on each of these Envoys: requests are sent, and the spans that
are exported and the headers that applications receive are what the page says. With --rendered it is what Istio's code made
of the examples' manifests: the first Envoy stands for the proxies of 1.28, the last for those of 1.31."""

import collections
import contextlib
import http.client
import json
import pathlib
import secrets
import socket
import ssl
import sys
import tempfile

import certificates
import yaml
from example import CLIENT, SERVER, Application, Collector, address, check, cluster, moved, of_istio
from parts import Processes, get, wait_for

FOLDER = pathlib.Path("examples/traffic")
# As Istio names a service in TLS between clusters, and who a proxy of the mesh says that it is.
SNI = "outbound_.80_._.shop.default.svc.cluster.local"
IDENTITY = "spiffe://cluster.local/ns/istio-system/sa/gateway"
INSPECTOR = {
    "name": "envoy.filters.listener.tls_inspector",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
}


@contextlib.contextmanager
def running(envoy, *trees, **ports):
    """An Envoy for each configuration, with these ports in common; ports are added as they are chosen."""
    ports = {int(name[1:]): port for name, port in ports.items()}
    with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
        configurations = [json.dumps(moved(tree, ports)) for tree in trees]
        for configuration, admin in zip(configurations, (9901, 9902, 9903)):
            processes.envoy(f"envoy-{admin}", envoy, configuration, ports[admin])
        yield ports


def example(name):
    return yaml.safe_load((FOLDER / f"envoy-{name}.yaml").read_text())


def ask(port, path, headers, host="shop.example.com"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers={**headers, "host": host})
    answer = connection.getresponse()
    return answer.status, answer.read().decode().strip()


def sampled(flags="01"):
    """A context of a caller: its trace id, its span id and the headers."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    return trace_id, span_id, {"traceparent": f"00-{trace_id}-{span_id}-{flags}"}


def pair(collector, trace_id, caller, at):
    """The SERVER span and its CLIENT child."""
    spans = {span.kind: span for span in collector.trace(trace_id, 2)}
    check(set(spans) == {SERVER, CLIENT}, f"{at}: {spans}")
    check(spans[SERVER].parent_id == caller, f"{at}: {spans[SERVER]} is not below {caller}")
    check(spans[CLIENT].parent_id == spans[SERVER].span_id, f"{at}: {spans}")
    return spans[SERVER], spans[CLIENT]


def canary(envoy, tree):
    applications = [Application(name) for name in ("v1", "v2", "blue", "green")]
    collector = Collector()
    ports = {f"_{8081 + i}": application.port for i, application in enumerate(applications)}
    with running(envoy, tree, _4318=collector.port, **ports) as ports:
        for path, headers, route, version, variant, served in [
            ("/ab", {"x-ui-version": "new"}, "variant-new", "v2", "new", "v2"),
            ("/ab", {"x-ui-version": "old"}, "canary", None, "old", None),
            # What nobody has allowed is no variant.
            ("/ab", {"x-ui-version": "secret"}, "canary", None, None, None),
            ("/checkout", {}, "live", "blue", None, "blue"),
            ("/checkout", {"x-preview": "green"}, "preview", "green", None, "green"),
        ]:
            trace_id, caller, context = sampled()
            at = f"canary {path} {headers}"
            status, body = ask(ports[10000], path, {**headers, **context})
            check(status == 200 and body == (served or body), f"{at}: {status} {body}")
            server, client = pair(collector, trace_id, caller, at)
            check(server.attributes["app.route"] == route, f"{at}: {server}")
            check(server.attributes["app.version"] == (version or body), f"{at}: {server}, served by {body}")
            check(server.attributes.get("app.variant") == variant, f"{at}: {server}")
            check(f"|{body}|" in client.attributes["upstream_cluster.name"], f"{at}: {client}, served by {body}")
            told = next(a for a in applications if a.name == body).requests[-1][1]["traceparent"]
            check(told == f"00-{trace_id}-{client.span_id}-01", f"{at}: {told}, {client}")

        # Nobody has decided about these: all that the new version serves are traced, of the others one in a hundred.
        served = collections.Counter(ask(ports[10000], "/weights", {})[1] for _ in range(200))
        check(2 < served["v2"] < 60 and served["v1"] + served["v2"] == 200, f"canary: {served}")
        told = {a.name: [h["traceparent"][-2:] for h in a.asked("/weights")] for a in applications}
        check(set(told["v2"]) == {"01"}, f"canary: {told['v2']}")
        check(told["v1"].count("01") < 20, f"canary: {told['v1'].count('01')} of {served['v1']}")
        of_v2 = wait_for("spans of the canary", lambda: len(versions(collector, "v2")) == 2 * served["v2"] or None)
        check(of_v2, "spans of the canary")
        for _ in range(20):
            check(ask(ports[10000], "/checkout", {"x-preview": "green"})[1] == "green", "green")
        told = [headers["traceparent"][-2:] for headers in applications[3].asked("/checkout")]
        check(set(told) == {"01"}, f"green: {told}")


def versions(collector, version):
    return [s for s in list(collector.spans) if s.attributes["url.path"] == "/weights" and s.attributes.get("app.version") == version]


def faults(envoy, tree):
    application, collector = Application("application"), Collector()
    with running(envoy, tree, _8081=application.port, _4318=collector.port) as ports:
        for path, expected in [("/healthy", 200), ("/ratings/1", 503), ("/reviews/1", 200), ("/healthy", 200)]:
            status, _ = ask(ports[10000], path, {}, "app.default.svc.cluster.local")
            check(status == expected, f"fault {path}: {status}")
        check(not application.asked("/ratings/1"), "an aborted request reached the application")
        [delayed] = application.asked("/reviews/1")
        check(delayed["traceparent"].endswith("-00"), f"kept, and not sampled: {delayed}")
        spans = wait_for("spans of faults", lambda: collector.spans if len(collector.spans) == 2 else None)
        kept = {span.attributes["url.path"]: span for span in spans}
        check(set(kept) == {"/ratings/1", "/reviews/1"}, f"faults: {kept}")
        aborted, slow = kept["/ratings/1"], kept["/reviews/1"]
        # A CLIENT span has the status that the upstream sent, and that one was not asked.
        check("http.response.status_code" not in aborted.attributes, f"aborted: {aborted}")
        check(aborted.attributes["error.type"] == "fault_filter_abort", f"aborted: {aborted}")
        check(aborted.attributes["response_flags"] == "FI", f"aborted: {aborted}")
        check(aborted.attributes["meshtrace.kept"] == "error", f"aborted: {aborted}")
        check(slow.attributes["http.response.status_code"] == "200", f"delayed: {slow}")
        check(slow.attributes["response_flags"] == "DI", f"delayed: {slow}")
        check(slow.attributes["meshtrace.kept"] == "slow", f"delayed: {slow}")


def mirror(envoy, tree):
    application, shadow, collector = Application("application"), Application("shadow"), Collector()
    with running(envoy, tree, _8081=application.port, _8082=shadow.port, _4318=collector.port) as ports:
        for flags, b3 in [("01", False), ("00", False), ("01", True)]:
            trace_id, caller, context = sampled(flags)
            if b3:
                context = {"b3": f"{trace_id}-{caller}-1"}
            path, at = f"/{trace_id}", f"mirror {context}"
            status, body = ask(ports[10000], path, context, "shop.example.com")
            check((status, body) == (200, "application"), f"{at}: {status} {body}")
            [copy] = wait_for("the mirrored request", lambda at=path: shadow.asked(at))
            [original] = application.asked(path)
            check(copy["host"].startswith("shop.example.com-shadow"), f"{at}: {copy}")
            if flags == "00":
                check(original["traceparent"].endswith("-00") and copy["traceparent"].endswith("-00"), f"{at}: {copy}")
                check(copy["traceparent"].split("-")[1] == trace_id, f"{at}: {copy}")
                continue
            spans = {(s.resource["service.name"], s.kind): s for s in collector.trace(trace_id, 3)}
            server, client = spans["edge", SERVER], spans["edge", CLIENT]
            of_shadow = spans["shadow", SERVER]
            check(server.parent_id == caller, f"{at}: {spans}")
            # Both requests were sent from one span: the copy is told what the original is.
            check(original["traceparent"] == f"00-{trace_id}-{client.span_id}-01", f"{at}: {original}")
            check(of_shadow.parent_id == client.span_id, f"{at}: {of_shadow} is not below {client}")
            check(copy["traceparent"] == f"00-{trace_id}-{of_shadow.span_id}-01", f"{at}: {copy}")
        of_hosts(ports[10000], shadow, collector)
        seen = len(collector.spans)
        opt_out(ports[10002], shadow, collector)
        check(len(collector.spans) == seen + 1, f"opt-out: {collector.spans[seen:]}")


def of_hosts(port, shadow, collector):
    """Envoy's suffix is a part of the copy's host, and stands before the port."""
    for host, copied in [
        ("shop.example.com:8080", ("shop.example.com-shadow", "8080")),
        ("10.0.0.1", ("10.0.0.1-shadow", "80")),
        ("10.0.0.1:8080", ("10.0.0.1-shadow", "8080")),
        ("[::1]:8080", ("[::1]-shadow", "8080")),
        ("[::1]", ("[::1]-shadow", "80")),
    ]:
        trace_id, _, context = sampled()
        ask(port, f"/{trace_id}", context, host)
        spans = {(s.resource["service.name"], s.kind): s for s in collector.trace(trace_id, 3)}
        told = tuple(spans["shadow", SERVER].attributes.get(key) for key in ("server.address", "server.port"))
        check(told == copied, f"the copy for {host}: {told}, sent to {shadow.asked(f'/{trace_id}')[0]['host']}")


def opt_out(port, shadow, collector):
    """A shadow's proxy that takes no part in traces: the copy has no span there, and its application is told so."""
    for host, flag in [("shop.example.com-shadow", "00"), ("shop.example.com", "01")]:
        trace_id, caller, context = sampled()
        path = f"/{trace_id}"
        ask(port, path, context, host)
        [told] = shadow.asked(path)
        check(told["traceparent"].split("-")[1::2] == [trace_id, flag], f"opt-out {host}: {told}")
        if flag == "01":
            [span] = collector.trace(trace_id, 1)
            check(span.parent_id == caller, f"opt-out {host}: {span}")


def clusters(envoy, east, west):
    """One trace over two gateways: as the files are, and with TLS that the second one ends and one between passes on."""
    application, collector = Application("application"), Collector()
    with running(envoy, east, west, _8081=application.port, _4318=collector.port) as ports:
        over_clusters(ports, application, collector, "plain")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        certificates.authority(folder, "ca")
        certificates.signed(folder, "ca", "proxy", f"URI:{IDENTITY}")
        east, west = with_tls(east, west, folder)
        # The one between has the port that the first one calls.
        west = json.loads(json.dumps(west).replace("10010", "10011"))
        with running(envoy, east, west, passing(), _8081=application.port, _4318=collector.port) as ports:
            over_clusters(ports, application, collector, "tls")
            refused(ports[10011], folder)
            stats = get(f"http://127.0.0.1:{ports[9903]}/stats?filter=tcp.passed.downstream_cx_total")
            check(int(stats.split(": ")[1]) >= 1, f"nothing passed: {stats}")


def with_tls(east, west, folder):
    """ISTIO_MUTUAL: the first calls the second under the name of the service in the second's cluster, which ends TLS."""
    east, west = json.loads(json.dumps([east, west]))
    [to_west] = [one for one in east["static_resources"]["clusters"] if "15443" in one["name"]]
    to_west["transport_socket"] = certificates.mutual("Upstream", folder, IDENTITY, alpn_protocols=["istio"])
    to_west["transport_socket"]["typed_config"]["sni"] = SNI
    [listener] = west["static_resources"]["listeners"]
    listener["listener_filters"] = [INSPECTOR]
    [chain] = listener["filter_chains"]
    chain["filter_chain_match"] = {"server_names": [SNI]}
    chain["transport_socket"] = certificates.mutual("Downstream", folder, IDENTITY, alpn_protocols=["istio"])
    return east, west


def passing():
    """AUTO_PASSTHROUGH: the name in TLS is the cluster, and nothing is ended."""
    filters = "type.googleapis.com/envoy.extensions.filters.network"
    sni = {"name": "sni", "typed_config": {"@type": f"{filters}.sni_cluster.v3.SniCluster"}}
    tcp = {"@type": f"{filters}.tcp_proxy.v3.TcpProxy", "stat_prefix": "passed", "cluster": "none"}
    listener = {
        "name": "passing",
        "address": address(10010),
        "listener_filters": [INSPECTOR],
        "filter_chains": [
            {"filter_chain_match": {"server_names": [SNI]}, "filters": [sni, {"name": "tcp", "typed_config": tcp}]}
        ],
    }
    static = {"listeners": [listener], "clusters": [cluster(SNI, 10011)]}
    return {"admin": {"address": address(9903)}, "static_resources": static}


def refused(port, folder):
    """Who has no certificate of the mesh reaches nothing."""
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.check_hostname = False
    why = None
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        try:
            # Nothing is sent: the other side would answer unread data with a reset, and its reason could be lost.
            context.wrap_socket(plain, server_hostname=SNI).recv(1)
        except (ssl.SSLError, TimeoutError) as error:
            why = getattr(error, "reason", "no answer")
    check(why == "TLSV13_ALERT_CERTIFICATE_REQUIRED", f"without a certificate: {why}")


def over_clusters(ports, application, collector, case):
    for sent in ("traceparent", "b3"):
        trace_id, caller, context = sampled()
        context["tracestate"] = "vendor=1"
        if sent == "b3":
            context = {"b3": f"{trace_id}-{caller}-1"}
        path, at = f"/{case}/{sent}", f"clusters {case} {sent}"
        check(ask(ports[10000], path, {**context, "baggage": "tier=gold,user=42"})[0] == 200, at)
        made = collector.trace(trace_id, 4)
        spans = {(s.resource["istio.cluster_id"], s.kind): s for s in made}
        chain = [spans["east", SERVER], spans["east", CLIENT], spans["west", SERVER], spans["west", CLIENT]]
        check(len(made) == 4, f"{at}: {made}")
        for parent, span in zip([caller] + [s.span_id for s in chain], chain):
            check(span.parent_id == parent, f"{at}: {span} is not below {parent}: {chain}")
            check(span.attributes["app.tier"] == "gold", f"{at}: {span}")
            name, service = span.resource["istio.cluster_id"], span.resource["service.name"]
            check(span.resource["k8s.cluster.name"] == name, f"{at}: {span}")
            check(service == f"gateway-{name}.istio-system", f"{at}: {span}")
        [told] = application.asked(path)
        check(told["traceparent"] == f"00-{trace_id}-{chain[3].span_id}-01", f"{at}: {told}, {chain[3]}")
        check(told["x-b3-traceid"] == trace_id, f"{at}: {told}")
        check(told["baggage"] == "tier=gold,user=42", f"{at}: {told}")
        if sent == "traceparent":
            check(told["tracestate"] == "vendor=1" == chain[3].tracestate, f"{at}: {told}, {chain[3].tracestate}")


def rendered(folder, first, last):
    """The same requests, through proxies as Istio configures them."""
    ports = [("|v1|shop", 8081), ("|v2|shop", 8082), ("|blue|", 8083), ("|green|", 8084)]
    seen = 0
    for path in sorted(pathlib.Path(folder).glob("*.json")):
        name, version = path.stem.split("_")
        envoy = {"1.28": first, "1.31": last}.get(version[:4])
        if not envoy or name == "multicluster":
            continue
        if name == "canary":
            canary(envoy, of_istio(path, ports)[1])
        elif name == "faults":
            faults(envoy, of_istio(path, [("||app.", 8081)])[1])
        else:
            shadow, collector = Application("shadow"), Collector()
            tree = of_istio(path, [("inbound|", 8082)])[1]
            with running(envoy, tree, _8082=shadow.port, _4318=collector.port) as chosen:
                opt_out(chosen[10000], shadow, collector)
                check(len(collector.spans) == 1, f"opt-out: {collector.spans}")
        seen += 1
    check(seen == 6, f"only {seen} were rendered")
    print(f"==> traffic: {seen} proxies as Istio configures them", file=sys.stderr)


def main():
    arguments = sys.argv[1:]
    if arguments[0] == "--rendered":
        rendered(*arguments[1:])
        return
    for envoy in arguments:
        canary(envoy, example("canary"))
        faults(envoy, example("faults"))
        mirror(envoy, example("mirror"))
        clusters(envoy, example("east"), example("west"))
    print(f"==> traffic: 4 examples, each in {len(arguments)} versions of Envoy", file=sys.stderr)


main()
