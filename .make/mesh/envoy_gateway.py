"""envoy_gateway.py <meshtrace> <envoy> [<envoy-gateway> <docker-registry> <meshtrace-images>]: istio-manifests/envoy-gateway,
and what `meshtrace init` writes, in an Envoy as Envoy Gateway configures it.

With Envoy Gateway it is the real one, in a network of its own, and what it serves is compared with the fixture.
UPDATE_ENVOY_GATEWAY=1 writes the fixture. Without, Envoy runs the fixture, which must be of today's manifests. Requests
without a context, with W3C, with B3 and with a malformed `b3` go through. What the application is told, what is reported and
what is logged is looked at.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.error

import gateway_server
import yaml
from example import CLIENT, SERVER, Application, Collector, check, lines, moved
from parts import Processes, get, wait_for

MANIFESTS = pathlib.Path("istio-manifests/envoy-gateway")
FIXTURE = pathlib.Path(".make/mesh/envoy-gateway")
# Of the line that Envoy Gateway 1.9 has.
VERSION = "1.39.3"
# In the manifests, and in the fixture.
LISTENS, APPLICATION, COLLECTOR = 8888, 8080, 4318
SPAN, TRACE = "00f067aa0ba902b7", "4bf92f3577b34da6a3ce929d0e0e4736"
ARRIVALS = {
    "nothing": {},
    "w3c": {"traceparent": f"00-{TRACE}-{SPAN}-01"},
    "multi": {"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "1"},
    "single": {"b3": f"{TRACE}-{SPAN}-1"},
    "malformed": {"b3": "hello"},
}
PLACE = f"127.0.0.1:{gateway_server.REGISTRY}/meshtrace"


def documents(meshtrace, case):
    """The resources of a case, with the registry of here."""
    if case != "init":
        text = (MANIFESTS / f"{case}.yaml").read_text().replace("registry.example.com/meshtrace", PLACE)
        return list(yaml.safe_load_all(text))
    with tempfile.TemporaryDirectory() as folder:
        command = [meshtrace, "init", "--envoy-gateway", "--place", "edge", "--logs", "yes", "--attributes", "none"]
        command += ["--namespace", gateway_server.HERE, "--url", f"oci://{PLACE}/{{filter}}:0.1.0", "--out", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        texts = [path.read_text() for path in sorted(pathlib.Path(folder).glob("apply/*.yaml"))]
    return [document for text in texts for document in yaml.safe_load_all(text)]


def plugin(made):
    [policy] = [document for document in made if document["kind"] == "EnvoyExtensionPolicy"]
    [wasm] = policy["spec"]["wasm"]
    return wasm


def send(port, path, headers):
    try:
        get(f"http://127.0.0.1:{port}{path}", headers)
    except urllib.error.HTTPError as error:
        # A client that leaves before the end is no failure of the server's.
        error.read()
        check(error.code == (404 if path.startswith("/none") else 500), f"{path}: {error}")


def judge(case, made, port, application, collector, log):
    wasm = plugin(made)
    if "report" not in wasm["config"]:
        context(case, port, application)
        return
    reads = wasm["config"]["trace_context"].get("extract", ["tracecontext", "b3", "b3multi"])
    logged = any("accessLog" in document["spec"].get("telemetry", {}) for document in made)
    for arrival, headers in ARRIVALS.items():
        # Failed requests are reported, whichever are sampled.
        path, label = f"/app/{case}/fail/{arrival}", f"{case}, {arrival} arrives"
        send(port, path, headers)
        [told] = application.asked(path)
        _, trace_id, span_id, flags = told["traceparent"].split("-")
        check(trace_id != TRACE, f"{label}: clients say what is traced: {told}")
        check((told["x-b3-traceid"], told["x-b3-spanid"]) == (trace_id, span_id), f"{label}: {told}")
        # A caller's shape is answered too, with the same ids. What is not read passes as it is.
        single = [trace_id, span_id] if "b3" in reads else [TRACE, SPAN]
        check("b3" not in told or told["b3"].split("-")[:2] == single or arrival == "malformed", f"{label}: {told}")
        check(arrival != "malformed" or ("b3" in told) == ("b3" not in reads), f"{label}: {told}")
        spans = {span.kind: span for span in collector.trace(trace_id, 2)}
        check(set(spans) == {SERVER, CLIENT}, f"{label}: {spans}")
        server, client = spans[SERVER], spans[CLIENT]
        check((server.parent_id, client.parent_id) == ("", server.span_id), f"{label}: {spans}")
        check(span_id == client.span_id, f"{label}: the application is told {span_id}, and {client} is reported")
        check(server.attributes["http.response.status_code"] == "500", f"{label}: {server}")
        check(flags == "01" or server.attributes["meshtrace.kept"] == "error", f"{label}: {server}")
        name = wasm["config"]["report"]["resource"]["service.name"]
        check(server.resource["service.name"] == name, f"{label}: {server}")
        if logged:
            [line] = wait_for(f"log line, {label}", lambda of=path: [one for one in lines(log) if one["x-envoy-origin-path"] == of])
            check((line["trace_id"], line["span_id"]) == (trace_id, server.span_id), f"{label}: {line}, {server}")
    # Envoy Gateway turns the plugin on by route: what no route takes has no span.
    seen = len(collector.spans)
    send(port, f"/none/{case}", {})
    send(port, f"/app/{case}/fail/last", {})
    wait_for("the last spans", lambda: len(collector.spans) >= seen + 2)
    paths = {span.attributes["url.path"] for span in collector.spans[seen:]}
    check(paths == {f"/app/{case}/fail/last"}, f"{case}: {paths}")


def context(case, port, application):
    for arrival, headers in ARRIVALS.items():
        path, label = f"/app/{case}/{arrival}", f"{case}, {arrival} arrives"
        send(port, path, headers)
        [told] = application.asked(path)
        if arrival in ("nothing", "malformed"):
            check(not {"traceparent", "x-b3-traceid", "b3"} & set(told), f"{label}: {told}")
            continue
        check(told["traceparent"] == f"00-{TRACE}-{SPAN}-01", f"{label}: {told}")
        check((told["x-b3-traceid"], told["x-b3-spanid"]) == (TRACE, SPAN), f"{label}: {told}")


def real(cases, envoy, program, registry, images):
    with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
        gateway_server.network(processes.folder)
        application, collector = Application("application", answers, APPLICATION), Collector(COLLECTOR)
        digests = gateway_server.pushed(processes, registry, images)
        for case, made in cases.items():
            image = plugin(made)["code"]["image"]
            check(plugin(made)["rootID"] in digests, f"{digests}")
            image["sha256"] = digests[plugin(made)["rootID"]]
            at = processes.folder / case
            at.mkdir()
            with Processes(at) as own:
                resources = gateway_server.around(made, VERSION, LISTENS, APPLICATION)
                gateway_server.start(own, at, program, envoy, VERSION, resources)
                own.wait_for("Envoy of Envoy Gateway", lambda: ready(at))
                judge(case, made, LISTENS, application, collector, own.log)
                module = hashlib.sha256(pathlib.Path(f"dist/{plugin(made)['rootID']}.wasm").read_bytes()).hexdigest()
                found = json.dumps(gateway_server.served(at, module), indent=1, sort_keys=True) + "\n"
            if os.environ.get("UPDATE_ENVOY_GATEWAY") == "1":
                FIXTURE.mkdir(exist_ok=True)
                (FIXTURE / f"{case}.json").write_text(found)
            check((FIXTURE / f"{case}.json").read_text() == found, f"{case}: {FIXTURE} is not what it serves: UPDATE_ENVOY_GATEWAY=1")


def ready(folder):
    addresses = list((folder / "runtimeDir").glob("*/admin-address.txt"))
    return addresses and "LIVE" in get(f"http://{addresses[0].read_text()}/ready")


def replayed(cases, envoy):
    application, collector = Application("application", answers), Collector()
    for case, made in cases.items():
        stored = json.loads((FIXTURE / f"{case}.json").read_text())
        wasm = plugin(made)
        [ran] = gateway_server.plugins(stored["static_resources"]["listeners"])
        advice = f"{case}: {FIXTURE} is of another manifest: ENVOY_GATEWAY=1 UPDATE_ENVOY_GATEWAY=1 .make/mesh/envoy-gateway.sh"
        check(json.loads(ran["configuration"].get("value") or "{}") == wasm["config"], advice)
        check((ran["root_id"], ran["name"]) == (wasm["rootID"], wasm["name"]), advice)
        ports = {APPLICATION: application.port, COLLECTOR: collector.port}
        with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
            log = pathlib.Path(folder) / "access.log"
            admin = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 9901}}}
            tree = moved({**here(stored), "admin": admin}, ports, log)
            processes.envoy("envoy", envoy, json.dumps(tree), ports[9901])
            judge(case, made, ports[LISTENS], application, collector, log)


def here(tree):
    """The configuration on loopback alone, with the collector there."""
    text = json.dumps(tree).replace(f'"{gateway_server.NAMES[1]}", "port_value"', '"127.0.0.1", "port_value"')
    return json.loads(text.replace('"address": "0.0.0.0"', '"address": "127.0.0.1"'))


def answers(path):
    return 500 if "/fail" in path else 200


def main():
    meshtrace, envoy, *gateway = sys.argv[1:]
    there = {path.stem for path in MANIFESTS.glob("*.yaml")}
    check(there == {"mesh-tracing", "trace-context-no-tracer"}, f"a manifest that no case is about: {there}")
    cases = {case: documents(meshtrace, case) for case in [*sorted(there), "init"]}
    if gateway:
        real(cases, envoy, *gateway)
    else:
        replayed(cases, envoy)
    what = "itself" if gateway else "as it configures Envoy"
    print(f"==> Envoy Gateway {what}: {len(cases)} sets of resources", file=sys.stderr)


main()
