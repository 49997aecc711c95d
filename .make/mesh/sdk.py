"""sdk.py <go> <java> <node> <python> <old Envoy> <new Envoy>: the services of examples/sdk behind these Envoys, started as
the page there says. The first four are what `.make/sdk.sh` says of each.

The caller speaks B3, the services have their SDK's default.
"""

import contextlib
import copy
import json
import os
import pathlib
import re
import secrets
import socket
import subprocess
import sys
import tempfile

import yaml
from example import CLIENT, SERVER, Application, Collector, check, moved
from parts import Processes, free_port, get, wait_for

FOLDER = pathlib.Path("examples/sdk")
LANGUAGES = ["go", "java", "node", "python"]
# As the files have them.
PORTS = {"go": 8081, "java": 8082, "node": 8083, "python": 8084, "plain": 8085}
MODULE = {"name": "meshtrace", "do_not_close": True}
EXTENSIONS = "type.googleapis.com/envoy.extensions"
# What doctor asks for, on each side, and a few.
REQUESTS = 25


def lines():
    """How the page starts each service."""
    page = (FOLDER / "README.md").read_text()
    block = re.search(r"^```sh\n(make build.*?)^```", page, re.MULTILINE | re.DOTALL).group(1)
    return {line.split()[0].split("=")[1]: line.removesuffix("&") for line in block.splitlines() if line.endswith("&")}


class Services:
    """Processes of the services. What they are told is where the Collector is, and nothing about propagation."""

    def __init__(self, processes, built, collector):
        self.processes, self.lines, self.collector = processes, lines(), collector
        self.built, self.started = dict(zip(LANGUAGES, built)), {}

    def start(self, language, port, mesh, following=False):
        # A service of an SDK's user has no setting of this machine.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        environment |= self.built | {
            "mesh": mesh,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.collector.port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            # None changes a span: the test's Collector takes nothing else, and does not wait five seconds.
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        if following:
            environment["NEXT"] = f"{mesh}/python"
        line = self.lines[language].replace(str(PORTS[language]), str(port))
        process = self.processes.start(f"{language}-{port}", ["bash", "-c", f"exec env {line}"], env=environment)
        self.started[port] = (language, process, self.processes.log)

    def wait_for(self, port):
        """Waits until the service of this port listens."""
        language, process, log = self.started[port]

        def listens():
            check(process.poll() is None, f"{language} has ended: {log.read_text()[-2000:]}")
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True

        wait_for(language, listens)


def nodes(tree, key):
    """Every value under this key."""
    if isinstance(tree, dict):
        found = [tree[key]] if key in tree else []
        return found + [value for below in tree.values() for value in nodes(below, key)]
    return [value for below in tree for value in nodes(below, key)] if isinstance(tree, list) else []


def without_filter(tree):
    tree = copy.deepcopy(tree)
    for filters in nodes(tree, "http_filters"):
        filters[:] = [one for one in filters if one["name"] != "mesh_tracing"]
    return tree


def native(tree):
    """The same with libmeshtrace.so, as docs/native.md says: the tracer in the place of the filter."""
    tree = copy.deepcopy(tree)
    for listener in tree["static_resources"]["listeners"]:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        [wasm] = [one for one in manager["http_filters"] if one["name"] == "mesh_tracing"]
        config = json.loads(wasm["typed_config"]["config"]["configuration"]["value"])
        is_gateway = config["report"].pop("role", None) == "gateway"
        text = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": json.dumps(config)}
        tracer = {"@type": f"{EXTENSIONS}.tracers.dynamic_modules.v3.DynamicModuleTracer", "tracer_name": "mesh_tracing"}
        tracer |= {"dynamic_module_config": MODULE, "tracer_config": text}
        manager["tracing"] = {"provider": {"name": "meshtrace", "typed_config": tracer}, "spawn_upstream_span": is_gateway}
        export = {"@type": f"{EXTENSIONS}.filters.http.dynamic_modules.v3.DynamicModuleFilter"}
        export |= {"dynamic_module_config": MODULE, "filter_name": "mesh_tracing_export"}
        wasm |= {"name": "mesh_tracing_export", "disabled": True, "typed_config": export}
    return tree


def asked(port, path, form):
    """A request with a context in B3. Returns its trace, and its answer."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    headers = {"b3": f"{trace_id}-{span_id}-1"}
    if form == "multi":
        headers = {"x-b3-traceid": trace_id, "x-b3-spanid": span_id, "x-b3-sampled": "1"}
    return trace_id, span_id, get(f"http://127.0.0.1:{port}{path}", headers)


def chain(spans, parent):
    """The spans from this parent on, each the only child of the one before, as services and kinds."""
    found = []
    while below := [span for span in spans if span.parent_id == parent]:
        check(len(below) == 1, f"{parent} has {len(below)} children: {below}")
        found.append((below[0].resource["service.name"], below[0].kind))
        parent = below[0].span_id
    check(len(found) == len(spans), f"{len(spans) - len(found)} spans are not in the chain {found}: {spans}")
    return found


def hops(*languages):
    """What the chain must be: two spans of the proxy before each service, two of a service, the last one of which calls none."""
    found = []
    for language in languages:
        found += [("envoy", SERVER), ("envoy", CLIENT)]
        found += [] if language == "plain" else [(language, SERVER), (language, CLIENT)]
    return found if languages[-1] == "plain" else found[:-1]


def others(collector, seen, known):
    """The traces that are new since `seen` spans, but for the known one."""
    return {span.trace_id for span in list(collector.spans)[seen:]} - {known}


def all_copy(port, collector, at):
    """One trace, from a caller that speaks B3 to the last service."""
    expected = hops(*LANGUAGES)
    for form in ("single", "multi"):
        seen = len(collector.spans)
        trace_id, caller, answer = asked(port, "/go", form)
        check(answer == "go java node python", f"{at}: {answer}")
        spans = collector.trace(trace_id, len(expected))
        check(chain(spans, caller) == expected, f"{at}, {form}: {chain(spans, caller)}")
        check(not others(collector, seen, trace_id), f"{at}, {form}: more than one trace")


def nothing_joins(port, collector, at):
    """The control: without the filter the services have a trace without the caller."""
    for form in ("single", "multi"):
        seen = len(collector.spans)
        trace_id, _, answer = asked(port, "/go", form)
        check(answer == "go java node python", f"{at}: {answer}")
        wait_for("spans of services", lambda seen=seen: len(collector.spans) >= seen + 7)
        check(len(others(collector, seen, trace_id)) == 1, f"{at}, {form}: {others(collector, seen, trace_id)}")
        check(not collector.of(trace_id), f"{at}, {form}: {collector.of(trace_id)}")


def one_does_not(port, collector, at):
    """A service that copies nothing: its trace ends there, and another one begins."""
    seen = len(collector.spans)
    trace_id, caller, answer = asked(port, "/plain", "single")
    check(answer == "plain python", f"{at}: {answer}")
    spans = collector.trace(trace_id, 2)
    check(chain(spans, caller) == hops("plain"), f"{at}: {spans}")
    [other] = wait_for("a second trace", lambda: others(collector, seen, trace_id))
    behind = collector.trace(other, 3)
    check(chain(behind, "") == hops("python"), f"{at}: {behind}")
    check(len(collector.of(trace_id)) == 2, f"{at}: {collector.of(trace_id)}")


@contextlib.contextmanager
def running(envoy, tree, ports):
    with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
        ports = dict(ports)
        configuration = json.dumps(moved(tree, ports))
        processes.envoy("envoy", envoy, configuration, ports.get(9901) or ports[9902])
        yield ports


def doctor(envoy, trees, services, collector):
    """Sidecars around two services: doctor names the one that copies nothing."""
    answering = Application("next")
    for language, expected in [("plain", True), ("python", False)]:
        ports = {8085: free_port(), 10002: free_port(), 10000: answering.port, 4318: collector.port}
        services.start(language, ports[8085], f"http://127.0.0.1:{ports[10002]}", following=True)
        services.wait_for(ports[8085])
        for host, tree in trees:
            with running(envoy, tree, ports) as chosen:
                examined(chosen, answering, language, expected, f"doctor, {host}, {language}")


def examined(ports, answering, language, expected, at):
    traces = {asked(ports[10001], f"/{language}", "single")[0] for _ in range(REQUESTS)}
    told = {headers["traceparent"].split("-")[1] for headers in answering.asked("/python")[-REQUESTS:]}
    check(traces.isdisjoint(told) if expected else traces == told, f"{at}: {told}, {traces}")
    admin = f"http://127.0.0.1:{ports[9902]}"

    def counted(counter, count):
        wait_for(counter, lambda: f"{counter}: {count}\n" in get(f"{admin}/stats?filter={counter}"))

    counted("report.incoming.joined", REQUESTS)
    counted("report.outgoing." + ("started" if expected else "joined"), REQUESTS)
    counted("report.outgoing." + ("joined" if expected else "started"), 0)
    command = ["dist/meshtrace", "doctor", admin, "--seconds", "1"]
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    check(("MT136" in said) is expected, f"{at}: {said}")
    check(said.count(f"{REQUESTS} since the start") == 2 or not expected, f"{at}: {said}")
    get(f"http://127.0.0.1:{ports[10001]}/{language}")
    counted("report.incoming.started", 1)


def main():
    *built, old, new = sys.argv[1:]
    collector = Collector()
    mesh = yaml.safe_load((FOLDER / "envoy.yaml").read_text())
    sidecar = yaml.safe_load((FOLDER / "envoy-sidecar.yaml").read_text())
    with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
        services = Services(processes, built, collector)
        ports = {port: free_port() for port in PORTS.values()} | {10000: free_port(), 4318: collector.port}
        # The virtual machine starts for longest.
        for language in ["java", "go", "node", "python", "plain"]:
            services.start(language, ports[PORTS[language]], f"http://127.0.0.1:{ports[10000]}")
        for port in PORTS.values():
            services.wait_for(ports[port])
        runs = [("Wasm, 1.36", old, mesh), ("Wasm, 1.40", new, mesh), ("native, 1.40", new, native(mesh))]
        for at, envoy, tree in runs:
            with running(envoy, tree, ports) as chosen:
                all_copy(chosen[10000], collector, at)
                one_does_not(chosen[10000], collector, at)
        with running(new, without_filter(mesh), ports) as chosen:
            nothing_joins(chosen[10000], collector, "no filter")
        doctor(new, [("Wasm", sidecar), ("native", native(sidecar))], services, collector)
    print(f"==> sdk: {len(LANGUAGES)} languages in one trace, in {len(runs)} proxies; doctor names the one without", file=sys.stderr)


main()
