"""prometheus.py <prometheus> <envoy>: a real Prometheus scrapes a real Envoy with mesh_tracing and all of its stages.

Every query of examples/grafana/dashboard.json and every expression of examples/alerts/rules.yaml is run against it, and
docs/metrics.md must list every name that was scraped. With UPDATE_METRICS=1 the list is written.
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

CONFIG = {
    "trace_context": {},
    "span_attributes": {},
    "access_log": {},
    "sampling": {
        "rules": [{"name": "pay", "match": {"path": {"prefix": "/pay"}}, "sample": "always"}],
        "default": "never",
    },
    "report": {"cluster": "collector", "batch": {"interval_ms": 10}},
}


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes every export."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def typed(kind, **fields):
    return {"@type": f"type.googleapis.com/envoy.extensions.filters.{kind}", **fields}


def bootstrap(admin, ingress, collector):
    wasm = {
        "name": "mesh_tracing",
        "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": "dist/mesh_tracing.wasm"}}},
        "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": json.dumps(CONFIG)},
    }
    manager = typed(
        "network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="ingress",
        http_filters=[
            {"name": "mesh_tracing", "typed_config": typed("http.wasm.v3.Wasm", config=wasm)},
            {"name": "router", "typed_config": typed("http.router.v3.Router")},
        ],
        route_config={
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
                }
            ]
        },
    )
    return {
        "node": {"id": "sidecar~10.0.0.1~shop-1.shop~shop.svc.cluster.local", "cluster": "shop"},
        "admin": {"address": address(admin)},
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
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    for path, headers in [
        ("/pay", {}),
        ("/", {}),
        ("/pay", {"traceparent": f"00-{trace}-{span}-01"}),
        ("/", {"b3": f"{trace}-{span}-0", "x-user-id": "zoe"}),
    ]:
        request = urllib.request.Request(f"http://127.0.0.1:{ingress}{path}", headers=headers)
        urllib.request.urlopen(request, timeout=10).read()


def names_of(exposition):
    """The names of the filter's metrics, with <rule> and <plugin> in the place of a name that the configuration gives."""
    names = set()
    for line in exposition.splitlines():
        name = line.partition("{")[0]
        if name.startswith("meshtrace_"):
            name = name.replace("_rule_pay_", "_rule_<name>_")
            names.add(re.sub(r"_plugin_.*", "_plugin_<name>", name))
    return names


def queries():
    """Every query of the dashboard, with its variables, and every expression of the rules."""
    board = json.loads(pathlib.Path("examples/grafana/dashboard.json").read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "5s")
            yield panel["title"], re.sub(r"\$(namespace|pod)", ".*", query)
    text = pathlib.Path("examples/alerts/rules.yaml").read_text()
    for name, block, line in re.findall(r"(?:alert|record): (\S+)\n\s+expr:(?: \|\n((?:\s{6,}.*\n)+)| (.*)\n)", text):
        yield name, (block or line).replace("[5m]", "[5s]").replace("[10m]", "[5s]").replace("[1h]", "[5s]")


def main():
    prometheus_program, envoy_program = sys.argv[1:]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    admin, ingress, port = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        with Processes(folder) as processes:
            # JSON is YAML.
            processes.envoy("envoy", envoy_program, json.dumps(bootstrap(admin, ingress, server.server_port)), admin)
            target = {"targets": [f"127.0.0.1:{admin}"], "labels": {"namespace": "shop", "pod": "shop-1"}}
            scrape = {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(pathlib.Path("examples/alerts/rules.yaml").resolve())],
                "scrape_configs": [
                    {"job_name": "envoy", "metrics_path": "/stats/prometheus", "static_configs": [target]}
                ],
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

            wait_for("Prometheus", lambda: get(f"http://127.0.0.1:{port}/-/ready"))

            def answered(query):
                """Traffic goes on meanwhile: a rate needs two scrapes."""
                send(ingress)
                return ask(query)

            asked = 0
            for title, query in queries():
                asked += 1
                if MAY_BE_EMPTY.search(query):
                    ask(query)
                else:
                    wait_for(f"series for {title}: {query}", lambda: answered(query))

            found = names_of(get(f"http://127.0.0.1:{admin}/stats/prometheus"))
            scraped = {series["metric"]["__name__"] for series in ask('{__name__=~"meshtrace_.*"}')}
            missing = sorted(name for name in found if "<" not in name and name not in scraped)
            if missing:
                sys.exit(f"error: in /stats/prometheus and not in Prometheus: {', '.join(missing)}")
            # A caller with B3 alone is the only thing that an alert is about here.
            alerts = wait_for("alert", lambda: ask("ALERTS"))
            names = {series["metric"]["alertname"] for series in alerts}
            if names != {"MeshtraceOnlyB3"}:
                sys.exit(f"error: alerts without a fault: {', '.join(sorted(names))}")
    compare(found)
    print(f"==> Prometheus: {asked} queries answered, {len(found)} names scraped", file=sys.stderr)


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
