"""discovery.py <pilot-discovery> <envoy>…: the manifests as Istio serves them, in real Envoys.

Istio's pilot-discovery reads the mesh and a manifest from a small Kubernetes API. An Envoy takes its listeners,
clusters, routes and plugins from it over ADS. Requests go through, and what the application is told, what is reported
and what is logged must be one trace. Where Istio's agent would fetch a module from its image, the manifest names the
module's file. A waypoint has tunnels with mutual TLS on both sides.
"""

import contextlib
import json
import os
import pathlib
import shutil
import sys
import tempfile

import discovery_istio
import discovery_served
import discovery_waypoint
from discovery_cases import ARRIVALS, CASES, DIST, MANIFESTS, OTHERS, SPAN, TRACES
from example import Quiet, check, serve, spans_of
from parts import Processes, wait_for

SERVED = pathlib.Path("target/served-by-istiod")


class Back:
    """The application and the collector: the requests and the spans that arrive."""

    def __init__(self):
        requests, spans = {}, []
        self.requests, self.spans = requests, spans

        class Handler(Quiet):
            def do_GET(self):
                requests[self.path] = {name.lower(): value for name, value in self.headers.items()}
                # Istio repeats what is answered with 503.
                self.answer(500 if "fail" in self.path else 200)

            def do_POST(self):
                body = self.body()
                spans.extend(of_zipkin(body) if "api/v2" in self.path else of_otlp(body))
                self.answer()

        self.port = serve(Handler)


KINDS = {2: "SERVER", 3: "CLIENT"}


def of_otlp(body):
    for span in spans_of(body):
        ids = {"trace": span.trace_id, "id": span.span_id, "parent": span.parent_id}
        yield {**ids, "kind": KINDS.get(span.kind), "tags": span.attributes}


def of_zipkin(body):
    for span in json.loads(body):
        ids = {"trace": span["traceId"], "id": span["id"], "parent": span.get("parentId", "")}
        yield {**ids, "kind": span.get("kind"), "tags": span.get("tags", {})}


def told(headers):
    """What the application is told: the format, and the trace, the span and the decision in it."""
    found = {}
    if "traceparent" in headers:
        _, trace, span, flags = headers["traceparent"].split("-")
        found["w3c"] = (trace, span, bool(int(flags, 16) & 1))
    if "x-b3-traceid" in headers:
        sampled = headers.get("x-b3-sampled") == "1"
        found["b3"] = (headers["x-b3-traceid"].rjust(32, "0"), headers["x-b3-spanid"], sampled)
    return found


def judge(name, world, log):
    case, back = world.case, world.back
    for arrival in ARRIVALS:
        path = world.send(arrival)
        label = f"{name}, {arrival} arrives"
        formats = told(back.requests[path])
        if arrival == "malformed":
            kept = back.requests[path].get("b3")
            check((kept == ARRIVALS[arrival]["b3"]) == case.stale, f"{label}: the application is told b3: {kept}")
            # Envoy's Zipkin tracer makes no span of it.
            check(len(set(formats.values())) <= 1, f"{label}: the application is told {formats}")
            continue
        if arrival == "nothing" and not case.spans:
            check(not formats, f"{label}: the application is told {formats}")
            continue
        of_writes = {formats.get(each) for each in case.writes}
        check(len(of_writes) == 1 and None not in of_writes, f"{label}: the application is told {formats}")
        trace, span, sampled = of_writes.pop()
        check(arrival != "nothing" or case.own in (None, sampled), f"{label}: sampled is {sampled}")
        goes_on = arrival in case.reads
        check((trace == TRACES[arrival]) == goes_on, f"{label}: the application is told the trace {trace}")
        if not case.spans:
            continue
        # Where no caller's decision goes on, dice may decide.
        if not sampled and case.at != "/fail":
            check(not goes_on or case.dice, f"{label}: not sampled")
            continue
        check(span != SPAN, f"{label}: no span of the proxy's")

        def reported():
            found = [each for each in list(back.spans) if each["trace"] == trace]
            return found if len(found) >= case.spans else None

        spans = wait_for(f"{case.spans} spans, {label}, of {back.spans}", reported)
        check(len(spans) == case.spans, f"{label}: {len(spans)} spans")
        kinds = sorted(each["kind"] for each in spans)
        # A waypoint is the server's side alone.
        expected = ["SERVER"] if case.kind == "waypoint" else ["CLIENT", "SERVER"]
        check(kinds == expected, f"{label}: spans of the kinds {kinds}")
        parents = {each["id"]: each["parent"] for each in spans}
        check(span in parents, f"{label}: the application is told {span}, and {parents} are reported")
        roots = [parent for parent in parents.values() if parent not in parents]
        check(len(roots) == 1, f"{label}: {parents} are no chain")
        check(roots == [SPAN] or not goes_on, f"{label}: the first span's parent is {roots}")
        tags = next(each["tags"] for each in spans if each["id"] == span)
        for key, value in case.attributes.items():
            check(tags.get(key) == value, f"{label}: {key} is {tags.get(key)}")
        if case.logs:
            lines = wait_for(f"log lines, {label}", lambda: logged(log, path, 2 if case.kind == "sidecar" else 1))
            # Where the file brings a filter on the way in alone, the line on the way out has none.
            ids = {(line["trace_id"], line["span_id"]) for line in lines if line.get("trace_id")}
            expected = {(each["trace"], each["id"]) for each in spans}
            check(ids <= expected and ids, f"{label}: the log has {ids}, reported are {expected}")


def logged(log, path, count):
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    found = [line for line in lines if line.get("path") == path]
    return found if len(found) == count else None


def run(case, program, envoy):
    """Runs a case. What istiod served stays in a folder, for discovery_served.py."""
    back = Back()
    world = {"waypoint": discovery_waypoint.World}.get(case.kind, discovery_istio.World)(case, back)
    name = " ".join(case.files)
    with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes, contextlib.closing(world):
        world.istiod(processes, program)
        world.start(processes, envoy)
        judge(name, world, pathlib.Path(folder) / "envoy.log")
        if len(case.files) == 1:
            discovery_served.save(SERVED, case, world.admin)


def main():
    program, *envoys = sys.argv[1:]
    folders = ["access-log", "collector", "envoyfilter", "native", "telemetry", "trafficextension", "wasmplugin"]
    there = {f"{folder}/{path.stem}" for folder in folders for path in (MANIFESTS / folder).glob("*.yaml")}
    named = {name for case in CASES for name in case.files} | OTHERS
    check(there == named, f"manifests that no case names, or that are gone: {there ^ named}")
    shutil.rmtree(SERVED, ignore_errors=True)
    SERVED.mkdir(parents=True)
    os.environ["ENVOY_DYNAMIC_MODULES_SEARCH_PATH"] = str(DIST)
    for envoy in envoys:
        for case in CASES:
            run(case, program, envoy)
    print(f"==> Istio's discovery: {len(CASES)} cases, each in {len(envoys)} Envoys", file=sys.stderr)


main()
