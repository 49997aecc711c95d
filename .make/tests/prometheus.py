"""prometheus.py <prometheus> <envoy>: a real Prometheus scrapes real Envoys with mesh_tracing and all of its stages.

Every query of examples/grafana/dashboard.json and every expression of examples/alerts/rules.yaml is run against it. One Envoy
has no fault, and each other one a fault that alerts are about: these alerts fire, and no other. docs/metrics.md must list
every name that was scraped, and every counter that the filters' pages name must be scraped. UPDATE_METRICS=1 writes the list.
"""

import http.server
import json
import os
import pathlib
import re
import sys
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request

sys.path.append(str(pathlib.Path(__file__).parents[1]))

from parts import Processes, free_port, get, wait_for  # noqa: E402  # the folder above is no package

PAGE = pathlib.Path("docs/metrics.md")
BEGIN = "<!-- names: written by `UPDATE_METRICS=1 .make/tests/prometheus.sh` -->\n"
END = "<!-- end of the names -->\n"

# Series that exist only where something went wrong or a rule fired. Their queries are run too, and may find nothing.
MAY_BE_EMPTY = re.compile(r"(>|<|==|unless|absent)")

# A header of each format that names a trace. The formats beside W3C and B3 are read only where they are named.
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FORMATS = {
    "tracecontext": {"traceparent": f"00-{TRACE}-{SPAN}-01"},
    "b3": {"b3": f"{TRACE}-{SPAN}-0"},
    "b3multi": {"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "1"},
    "jaeger": {"uber-trace-id": f"{TRACE}:{SPAN}:0:1"},
    "ottrace": {"ot-tracer-traceid": TRACE[16:], "ot-tracer-spanid": SPAN, "ot-tracer-sampled": "true"},
    "xray": {"x-amzn-trace-id": f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={SPAN};Sampled=1"},
    "gcp": {"x-cloud-trace-context": f"{TRACE}/{int(SPAN, 16)};o=1"},
    "datadog": {"x-datadog-trace-id": "123456789", "x-datadog-parent-id": "987", "x-datadog-sampling-priority": "1"},
    "grpc-trace-bin": {"grpc-trace-bin": "AABL+S81d7NNpqPOkp0ODkc2AQDwZ6oLqQK3AgE"},
}
CONFIG = {
    "trace_context": {"extract": list(FORMATS)},
    "span_attributes": {},
    "access_log": {},
    "sampling": {
        "rules": [{"name": "pay", "match": {"path": {"prefix": "/pay"}}, "sample": "always"}],
        "default": "never",
    },
    "report": {"cluster": "collector", "batch": {"interval_ms": 10}},
}
# Each pod: its configuration, what its collector answers, and what is special about its route.
DISABLED = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
OFF = {"typed_per_filter_config": {"mesh_tracing": DISABLED}}
NATIVE = {key: value for key, value in CONFIG.items() if key != "access_log"}
PODS = {
    "native": (NATIVE, 200, {}),
    "ok": (CONFIG, 200, {}),
    # With the tags of docs/trace_context.md, which take the formats out of the names.
    "tagged": (CONFIG, 200, {}),
    "invalid": ({"rapport": {}}, 200, {}),
    "refused": ({"report": CONFIG["report"], "sampling": {"default": "always", "parent": "ignore"}}, 400, {}),
    "dark": ({"report": CONFIG["report"], "sampling": {"default": "never", "parent": "ignore"}}, 200, {}),
    "bypassed": (CONFIG, 200, OFF),
}
# What fires. MeshtraceEnvoyRefusesCalls does not: nothing makes an Envoy refuse a filter's calls.
ALERTS = {
    ("MeshtraceOnlyB3", "ok"),
    ("MeshtraceOnlyB3", "tagged"),
    ("MeshtraceOnlyB3", "native"),
    ("MeshtraceOnlyB3", "refused"),
    ("MeshtraceOnlyB3", "dark"),
    ("MeshtraceConfigurationRefused", "invalid"),
    ("MeshtraceSpansLost", "refused"),
    ("MeshtraceExportRefused", "refused"),
    ("MeshtraceNothingExported", "refused"),
    ("MeshtraceNothingReported", "dark"),
    ("MeshtraceBypassed", "bypassed"),
}


def tags():
    """The tags that docs/trace_context.md makes of formats and directions."""
    page = pathlib.Path("docs/trace_context.md").read_text()
    found = re.findall(r"- tag_name: (\w+)\n\s+regex: '(.*)'\n", page)
    return {"stats_tags": [{"tag_name": name, "regex": regex} for name, regex in found]}


STRIP = "envoy.reloadable_features.dynamic_modules_strip_custom_stat_prefix"


def collector(status):
    """Gives every export this answer, and returns its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def typed(kind, **fields):
    return {"@type": f"type.googleapis.com/envoy.extensions.filters.{kind}", **fields}


def tracer(config):
    """The filter in front of the router, and the `tracing` of the connection manager."""
    text = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": json.dumps(config)}
    if config is not NATIVE:
        code = {"local": {"filename": "dist/mesh_tracing.wasm"}}
        wasm = {"name": "mesh_tracing", "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": code}, "configuration": text}
        return {"name": "mesh_tracing", "typed_config": typed("http.wasm.v3.Wasm", config=wasm)}, {}
    module = {"dynamic_module_config": {"name": "meshtrace", "do_not_close": True}}
    export = typed("http.dynamic_modules.v3.DynamicModuleFilter", **module, filter_name="mesh_tracing_export")
    provider = {
        "@type": "type.googleapis.com/envoy.extensions.tracers.dynamic_modules.v3.DynamicModuleTracer",
        **module,
        "tracer_name": "mesh_tracing",
        "tracer_config": text,
    }
    tracing = {"tracing": {"provider": {"name": "meshtrace", "typed_config": provider}}}
    return {"name": "mesh_tracing_export", "disabled": True, "typed_config": export}, tracing


def bootstrap(admin, ingress, config, collector, route):
    http_filter, tracing = tracer(config)
    manager = typed(
        "network.http_connection_manager.v3.HttpConnectionManager",
        **tracing,
        stat_prefix="ingress",
        http_filters=[http_filter, {"name": "router", "typed_config": typed("http.router.v3.Router")}],
        route_config={
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}, **route}],
                }
            ]
        },
    )
    return {
        "node": {"id": "sidecar~10.0.0.1~shop-1.shop~shop.svc.cluster.local", "cluster": "shop"},
        "admin": {"address": address(admin)},
        # The native module's names as the filter's: docs/native.md.
        "layered_runtime": {"layers": [{"name": "names", "static_layer": {STRIP: True}}]},
        "static_resources": {
            "listeners": [
                {
                    "name": "ingress",
                    "address": address(ingress),
                    "traffic_direction": "INBOUND",
                    "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "collector",
                    "load_assignment": {
                        "cluster_name": "collector",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(collector)}}]}],
                    },
                }
            ],
        },
    }


def send(ingress):
    """One request of each kind that a query asks for."""
    for path, headers in [("/pay", {}), ("/", {"x-user-id": "zoe"}), *(("/pay", headers) for headers in FORMATS.values())]:
        request = urllib.request.Request(f"http://127.0.0.1:{ingress}{path}", headers=headers)
        urllib.request.urlopen(request, timeout=10).read()


def names_of(exposition):
    """The names of the filter's metrics, with <rule> and <plugin> in the place of a name that the configuration gives."""
    names = set()
    for line in exposition.splitlines():
        name = line.partition("{")[0]
        if name.startswith("meshtrace_"):
            name = name.replace("_rule_pay_", "_rule_<name>_")
            name = re.sub(r"(_only_.*)_(inbound|outbound|unspecified)$", r"\1_<direction>", name)
            names.add(re.sub(r"_plugin_.*", "_plugin_<name>", name))
    return names


def queries():
    """Every query of the dashboard, with its variables, and every expression of the rules."""
    board = json.loads(pathlib.Path("examples/grafana/dashboard.json").read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "5s")
            yield panel["title"], re.sub(r"\$(namespace|pod)", ".*", query)
    # What the lists of namespaces and pods are made of.
    for variable in board["templating"]["list"]:
        if found := re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]):
            query = re.sub(r"\$namespace", ".*", found[1])
            label = found[2]
            yield f"the list {variable['name']}", f'count by ({label}) ({query}) and count by ({label}) ({{{label}=~".+"}})'
    for name, block, line in re.findall(r"(?:alert|record): (\S+)\n\s+expr:(?: \|\n((?:\s{6,}.*\n)+)| (.*)\n)", rules()):
        yield name, block or line


def rules():
    """The rules with windows that a test can wait for, and without their patience."""
    text = pathlib.Path("examples/alerts/rules.yaml").read_text()
    return re.sub(r"(?m)^    for: .*\n", "", re.sub(r"\[(5m|10m|1h)\]", "[5s]", text))


def counters_of_the_pages():
    """What the tables of the filters' pages name, as Prometheus has it."""
    for page in ["trace_context", "span_attributes", "access_log_trace", "route_sampling", "mesh_tracing"]:
        text = pathlib.Path(f"docs/{page}.md").read_text()
        for name in re.findall(r"(?m)^\| `(meshtrace\.[a-z0-9_.<>]+)` \|", text.partition("\n## Counters\n")[2]):
            yield name.replace(".", "_")


def main():
    prometheus_program, envoy_program = sys.argv[1:]
    os.environ["ENVOY_DYNAMIC_MODULES_SEARCH_PATH"] = "dist"
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        with Processes(folder) as processes:
            admins, ways_in, targets = {}, [], []
            for pod, (config, status, route) in PODS.items():
                admins[pod], ingress = free_port(), free_port()
                ways_in.append(ingress)
                targets.append({"targets": [f"127.0.0.1:{admins[pod]}"], "labels": {"namespace": "shop", "pod": pod}})
                tree = bootstrap(admins[pod], ingress, config, collector(status), route)
                if pod == "tagged":
                    tree["stats_config"] = tags()
                # JSON is YAML.
                processes.envoy(pod, envoy_program, json.dumps(tree), admins[pod])
            (folder / "rules.yml").write_text(rules())
            scrape = {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": ["rules.yml"],
                "scrape_configs": [{"job_name": "envoy", "metrics_path": "/stats/prometheus", "static_configs": targets}],
            }
            (folder / "prometheus.yml").write_text(json.dumps(scrape))
            command = [prometheus_program, f"--config.file={folder}/prometheus.yml"]
            command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
            processes.start("prometheus", command)

            def ask(query):
                parameters = urllib.parse.urlencode({"query": query})
                try:
                    answer = json.loads(get(f"http://127.0.0.1:{port}/api/v1/query?{parameters}"))
                except urllib.error.HTTPError as error:
                    sys.exit(f"error: Prometheus refuses the query {query}: {error.read().decode()}")
                return answer["data"]["result"]

            processes.wait_for("answer of Prometheus", lambda: get(f"http://127.0.0.1:{port}/-/ready"))

            def answered(query):
                """Traffic goes on meanwhile: a rate needs two scrapes."""
                for ingress in ways_in:
                    send(ingress)
                return ask(query)

            fired = set()

            def all_fire():
                found = answered('ALERTS{alertstate="firing"}')
                fired.clear()
                fired.update((series["metric"]["alertname"], series["metric"]["pod"]) for series in found)
                return fired == ALERTS

            try:
                wait_for("such alerts", all_fire)
            except SystemExit:
                print(f"expected {sorted(ALERTS - fired)}, not {sorted(fired - ALERTS)}", file=sys.stderr)
                raise
            asked = 0
            for title, query in queries():
                asked += 1
                if MAY_BE_EMPTY.search(query):
                    ask(query)
                else:
                    wait_for(f"series for {title}: {query}", lambda: answered(query))

            for query in ("meshtrace:requests:rate5m", 'meshtrace_trace_context_extracted{format="b3"}'):
                wait_for(f"series of {query}", lambda of=query: 'tagged"' in json.dumps(answered(of)))
            del admins["tagged"]
            found = set().union(*(names_of(get(f"http://127.0.0.1:{admin}/stats/prometheus")) for admin in admins.values()))
            scraped = {series["metric"]["__name__"] for series in ask('{__name__=~"meshtrace_.*"}')}
            missing = sorted(name for name in found if "<" not in name and name not in scraped)
            if missing:
                sys.exit(f"error: in /stats/prometheus and not in Prometheus: {', '.join(missing)}")
    missing = sorted(set(counters_of_the_pages()) - found)
    if missing:
        sys.exit(f"error: named in docs/ and never scraped: {', '.join(missing)}")
    compare(found)
    print(f"==> Prometheus: {asked} queries answered, {len(ALERTS)} alerts fired, {len(found)} names scraped", file=sys.stderr)


def compare(found):
    """The page has the names, and nothing else."""
    page = PAGE.read_text()
    head, begin, rest = page.partition(BEGIN)
    old, end, tail = rest.partition(END)
    if not begin or not end:
        sys.exit(f"error: {PAGE} has no place for the names")
    names = "".join(f"{name}\n" for name in sorted(found))
    new = f"\n```text\n{names}```\n\n"
    if old == new:
        return
    if os.environ.get("UPDATE_METRICS") != "1":
        sys.exit(f"error: {PAGE} lists other names than Envoy has: run UPDATE_METRICS=1 .make/tests/prometheus.sh")
    PAGE.write_text(head + begin + new + end + tail)


main()
