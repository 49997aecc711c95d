"""topologies.py <otelcol> <kustomize> <envoy>: the Collectors of examples/collector, real ones, with spans of real Envoys.

Through a Collector beside the application, one on its node, and a gateway of two rows: failed, slow and payment traces are
whole at the back end, whichever replica their spans came to. What is sampled by ratio and then made equal is what the trace
ids say. Spans come over TLS with a CA of one's own, and compressed.
"""

import collections
import http.client
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import certificates
import yaml
from example import CLIENT, HTTP2, SERVER, Collector, Quiet, address, check, cluster, serve
from parts import Processes, free_port, get, wait_for

FOLDER = pathlib.Path("examples/collector")
NAME = "otel-collector.observability.svc.cluster.local"


class Shop(Quiet):
    def do_GET(self):
        if self.path.startswith("/slow"):
            time.sleep(1.2)
        self.answer(503 if "fail" in self.path else 200, b"ok\n")


def otelcol(processes, program, name, configs, edit=lambda tree: None, **variables):
    """A Collector with these files of the example; `edit` changes what only a cluster has."""
    health = free_port()
    files = []
    for config in configs:
        tree = yaml.safe_load((FOLDER / config).read_text())
        edit(tree)
        files.append(processes.folder / f"{name}-{len(files)}.yaml")
        files[-1].write_text(yaml.safe_dump(tree))
    # Two Collectors on one machine cannot both have the port of their own metrics.
    quiet = "--config=yaml:service::telemetry::metrics::level: none"
    command = [program, *(f"--config={file}" for file in files), quiet]
    environment = {"HEALTH": f"127.0.0.1:{health}", "LISTEN": "127.0.0.1", **variables}
    process = processes.start(name, command, env={**os.environ, **environment})

    def ready():
        if process.poll() is not None:
            sys.exit(f"error: {name} has ended: {(processes.folder / f'{name}.log').read_text()[-2000:]}")
        return get(f"http://127.0.0.1:{health}/")

    wait_for(name, ready)


def ports():
    http_port, grpc_port = free_port(), free_port()
    return http_port, grpc_port, {"OTLP_HTTP_PORT": str(http_port), "OTLP_GRPC_PORT": str(grpc_port)}


def envoy(processes, program, service, role, upstream, report, exports, sampling="always", **cluster_fields):
    """An Envoy with mesh_tracing: the port of its listener, and that of its admin interface."""
    port, admin = free_port(), free_port()
    filters = "type.googleapis.com/envoy.extensions.filters"
    config = {
        "trace_context": {},
        "sampling": {"default": sampling},
        "report": {"cluster": "collector", "role": role, "resource": {"service.name": service}, **report},
    }
    plugin = {
        "name": "mesh_tracing",
        "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": "dist/mesh_tracing.wasm"}}},
        "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": json.dumps(config)},
    }
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "http_filters": [
            {"name": "mesh_tracing", "typed_config": {"@type": f"{filters}.http.wasm.v3.Wasm", "config": plugin}},
            {"name": "router", "typed_config": {"@type": f"{filters}.http.router.v3.Router"}},
        ],
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "next"}}]}
            ]
        },
    }
    listener = {
        "name": "ingress",
        "address": address(port),
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
    }
    clusters = [cluster("next", upstream), cluster("collector", exports, **cluster_fields)]
    static = {"listeners": [listener], "clusters": clusters}
    processes.envoy(service, program, json.dumps({"admin": {"address": address(admin)}, "static_resources": static}), admin)
    return port, admin


def ask(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def counter(admin, name):
    stats = json.loads(get(f"http://127.0.0.1:{admin}/stats?format=json&filter=meshtrace"))["stats"]
    return sum(stat["value"] for stat in stats if stat.get("name", "").endswith(f"meshtrace.{name}"))


def tail_sampling(program, proxy):
    """Two proxies, each with its own Collector and its own replica of the first row; two replicas of the second."""
    backends = [Collector(), Collector()]
    with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
        tails = []
        for number, backend in enumerate(backends):
            _, grpc, variables = ports()
            to = {"BACKEND": f"http://127.0.0.1:{backend.port}", "DECISION_WAIT": "3s"}
            otelcol(processes, program, f"tail-{number}", ["gateway/tail.yaml"], **variables, **to)
            tails.append(f"127.0.0.1:{grpc}")

        def replicas(tree):
            # No DNS here names two addresses.
            check("dns" in tree["exporters"]["loadbalancing"]["resolver"], "the example asks DNS")
            tree["exporters"]["loadbalancing"]["resolver"] = {"static": {"hostnames": tails}}

        exports = []
        for number, config in enumerate(["sidecar/collector.yaml", "node/collector.yaml"]):
            _, grpc, variables = ports()
            otelcol(processes, program, f"balance-{number}", ["gateway/balance.yaml"], replicas, **variables)
            near, _, variables = ports()
            otelcol(processes, program, f"near-{number}", [config], **variables, GATEWAY=f"127.0.0.1:{grpc}")
            exports.append(near)
        gzip = {"compression": "gzip"}
        inner, admin = envoy(processes, proxy, "app", "server", serve(Shop), gzip, exports[1])
        outer, _ = envoy(processes, proxy, "edge", "gateway", inner, {}, exports[0])
        sent = {"/other": 60, "/payments/7": 6, "/fail": 6, "/slow": 2}
        for path, count in sent.items():
            for _ in range(count):
                check(ask(outer, path) == (503 if path == "/fail" else 200), path)

        def spans():
            return [(number, span) for number, backend in enumerate(backends) for span in list(backend.spans)]

        def whole():
            kept = [span for _, span in spans() if span.attributes["url.path"] != "/other"]
            return kept if len(kept) == 3 * 14 else None

        wait_for("the traces that are always kept", whole)
        wait_for("spans in gzip", lambda: counter(admin, "report.exported") == sum(sent.values()))
        traces = collections.defaultdict(list)
        for number, span in spans():
            traces[span.trace_id].append((number, span))
        kept = collections.Counter()
        for trace_id, members in traces.items():
            kinds = sorted((span.resource["service.name"], span.kind) for _, span in members)
            check(kinds == [("app", SERVER), ("edge", SERVER), ("edge", CLIENT)], f"trace {trace_id} is not whole: {kinds}")
            check(len({number for number, _ in members}) == 1, f"trace {trace_id} is at two replicas")
            kept[members[0][1].attributes["url.path"]] += 1
        check({path: kept[path] for path in list(sent)[1:]} == {path: sent[path] for path in list(sent)[1:]}, f"{kept}")
        # 6 of 60 on average; more than half happens in no run of a million.
        check(kept["/other"] < 30, f"{kept}")
        check(all(backend.spans for backend in backends), "all traces are at one replica")
        encodings = {encoding for backend in backends for encoding in backend.encodings}
        check(encodings == {"gzip"}, f"the back end got {encodings}")
    return sum(kept.values())


def equal_probability(program, proxy):
    """Half of the traces by the proxy, a quarter of all by the Collector: what is left is what the ids say."""
    backend = Collector()
    with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
        http_port, _, variables = ports()
        to = f"http://127.0.0.1:{backend.port}"
        otelcol(processes, program, "equalize", ["gateway/equalize.yaml"], **variables, BACKEND=to)
        asked = []

        class Application(Quiet):
            def do_GET(self):
                asked.append(dict(self.headers))
                self.answer()

        half = {"ratio": 0.5}
        port, admin = envoy(processes, proxy, "app", "server", serve(Application), {}, http_port, sampling=half)
        for _ in range(200):
            ask(port, "/")
        told = {headers["traceparent"].split("-")[1]: headers for headers in asked}
        sampled = {trace_id for trace_id, headers in told.items() if headers["traceparent"].endswith("-01")}
        # OpenTelemetry's randomness: the right-most 56 bits. A threshold is the part that is dropped.
        def passes(trace_id, dropped):
            return int(trace_id[18:], 16) >= dropped * 2**56

        check(sampled == {trace_id for trace_id in told if passes(trace_id, 0.5)}, "the proxy decides otherwise")
        check({told[trace_id]["tracestate"] for trace_id in sampled} == {"ot=th:8"}, "the proxy's tracestate")
        expected = {trace_id for trace_id in told if passes(trace_id, 0.75)}
        wait_for("exports", lambda: counter(admin, "report.exported") == len(sampled))
        wait_for("spans", lambda: len(backend.spans) >= len(expected))
        found = {span.trace_id for span in backend.spans}
        check(found == expected, f"{len(found)} traces, expected {len(expected)}")
        check({span.tracestate for span in backend.spans} == {"ot=th:c"}, f"{backend.spans}")
    return len(found)


def own_ca(folder):
    """A CA, a certificate of the Collector's name by it, and another CA."""
    for ca in ("ca", "other"):
        certificates.authority(folder, ca)
    certificates.signed(folder, "ca", "tls", f"DNS:{NAME}")


def tls(ca):
    """As istiod makes it of gateway/istio-tls.yaml."""
    rule = yaml.safe_load((FOLDER / "gateway/istio-tls.yaml").read_text())["spec"]["trafficPolicy"]["tls"]
    names = [{"san_type": "DNS", "matcher": {"exact": name}} for name in rule["subjectAltNames"]]
    validation = {"trusted_ca": {"filename": str(ca)}, "match_typed_subject_alt_names": names}
    context = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    typed = {"@type": context, "sni": rule["sni"], "common_tls_context": {"validation_context": validation}}
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": typed}}


def over_tls(program, proxy):
    """Over HTTP and gRPC: a proxy that trusts the CA exports, one that trusts another does not."""
    backend = Collector()
    with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
        folder = pathlib.Path(folder)
        own_ca(folder)
        http_port, grpc_port, variables = ports()
        to = {"BACKEND": f"http://127.0.0.1:{backend.port}", "TLS": str(folder)}
        files = ["gateway/equalize.yaml", "gateway/tls.yaml"]

        def all_traces(tree):
            if "probabilistic_sampler" in tree.get("processors", {}):
                tree["processors"]["probabilistic_sampler"]["sampling_percentage"] = 100

        otelcol(processes, program, "tls", files, all_traces, **variables, **to)
        application = serve(Shop)
        over = [("http", http_port, {}, {}), ("grpc", grpc_port, {"protocol": "grpc"}, HTTP2)]
        for name, port, report, options in over:
            trusting, admin = envoy(processes, proxy, name, "server", application, report, port, **tls(folder / "ca.crt"), **options)
            ask(trusting, "/")
            wait_for(f"spans over TLS with {name}", lambda at=admin: counter(at, "report.exported") == 1)
        check(sorted(span.resource["service.name"] for span in backend.spans) == ["grpc", "http"], f"{backend.spans}")
        strict, admin = envoy(processes, proxy, "strict", "server", application, {}, http_port, **tls(folder / "other.crt"))
        ask(strict, "/")
        wait_for("a refused certificate", lambda: counter(admin, "report.retries") > 0)
        check(counter(admin, "report.exported") == 0 and len(backend.spans) == 2, "a foreign CA was believed")


def kubernetes(kustomize):
    """What the clusters are given: the files of the examples, in the places that their commands name."""
    for name, services in [("node", {"otel-node": None}), ("gateway", {"otel-collector": None, "otel-tail": "None"})]:
        command = [kustomize, "build", str(FOLDER / name)]
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        made = collections.defaultdict(list)
        for document in yaml.safe_load_all(text):
            made[document["kind"]].append(document)
        check({s["metadata"]["name"]: s["spec"].get("clusterIP") for s in made["Service"]} == services, f"{name}: {made['Service']}")
        [config] = made["ConfigMap"]
        for workload in made["DaemonSet"] + made["Deployment"] + made["StatefulSet"]:
            pod = workload["spec"]["template"]
            [container] = pod["spec"]["containers"]
            [volume] = pod["spec"]["volumes"]
            check(volume["configMap"]["name"] == config["metadata"]["name"], f"{name}: {volume}")
            file = container["args"][0].removeprefix("--config=/etc/otelcol/")
            check(config["data"][file] == (FOLDER / name / file).read_text(), f"{name}: {file} is another one")
            # Each port that the Service or the configuration names is there.
            listens = {port for port in (4317, 4318) if f"PORT:-{port}" in config["data"][file]}
            opened = {port["containerPort"] for port in container["ports"]}
            check(listens <= opened, f"{name}: {listens}, {opened}")
            labels = pod["metadata"]["labels"]
            check(workload["spec"]["selector"]["matchLabels"].items() <= labels.items(), f"{name}: {labels}")
            chosen = [s for s in made["Service"] if s["spec"]["selector"].items() <= labels.items()]
            check(len(chosen) == 1 and {p["port"] for p in chosen[0]["spec"]["ports"]} <= opened, f"{name}: {chosen}")
        policies = {p["spec"]["podSelector"]["matchLabels"]["app"] for p in made["NetworkPolicy"]}
        check(policies == ({"otel-collector", "otel-tail"} if name == "gateway" else set()), f"{name}: {policies}")


def main():
    program, kustomize, proxy = sys.argv[1:]
    kubernetes(kustomize)
    kept = tail_sampling(program, proxy)
    equal = equal_probability(program, proxy)
    over_tls(program, proxy)
    print(f"==> collectors: {kept} whole traces by tail sampling, {equal} of equal probability", file=sys.stderr)


main()
