"""logs.py <otelcol> <meshtrace> <envoy> <envoy> [<loki>]: the access log beside every tracer, and in every form that is shipped.

Istio's own fields stay beside the ids, ECS has its names, and all lines of a pod, Envoy's own among them, go through a real
Collector as a container runtime writes them: each request's record names the span that was exported. Where there is a Loki it
gets each export as it is, and is asked as Grafana asks it, by ./loki.py.
"""

import collections
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml
import loki
from example import HTTP2, Application, Collector, Quiet, check, lines as lines_of, moved, serve
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from parts import Processes, free_port, get, wait_for

EXAMPLE = pathlib.Path("examples/mesh-tracing/envoy.yaml")
PIPELINE = pathlib.Path("examples/access-log/collector-kubernetes.yaml")
FORMS = pathlib.Path("istio-manifests/access-log")
POD = "shop_shop-1_0a1b2c3d-0000-4000-8000-000000000001"
# Longer than any line of the pod's; a runtime cuts at 16 KiB.
CUT = 300


def form(name):
    """The fields of a provider of Istio's mesh configuration."""
    [provider] = yaml.safe_load((FORMS / name).read_text())["extensionProviders"]
    return provider["envoyFileAccessLog"]["logFormat"]["labels"]


def rendered(meshtrace, fields):
    """The fields that the command line writes for Envoy."""
    command = [meshtrace, "render", "access-log-trace", "--tracer", "none", "--envoy", "1.40", "--log-fields", fields]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    for document in yaml.safe_load_all(text):
        if "access_log" in (document or {}):
            return document["access_log"][0]["typed_config"]["log_format"]["json_format"]
    sys.exit("error: no access log is rendered")


def proxy(fields):
    tree = yaml.safe_load(EXAMPLE.read_text())
    manager = tree["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    configuration = manager["http_filters"][0]["typed_config"]["config"]["configuration"]
    stages = {**json.loads(configuration["value"]), "access_log": {}, "sampling": {"default": "always"}}
    configuration["value"] = json.dumps(stages)
    log = "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
    typed = {"@type": log, "log_format": {"json_format": fields, "omit_empty_values": True}}
    manager["access_log"] = [{"name": "stdout", "typed_config": typed}]
    host = manager["route_config"]["virtual_hosts"][0]
    host["routes"].insert(0, {"match": {"path": "/direct"}, "direct_response": {"status": 404}})
    return tree


def requests(envoy, fields):
    """The lines that a pod's container printed while requests came, and the spans that were exported."""
    collector, application = Collector(), Application("application")
    with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
        ports = {4318: collector.port, 8080: application.port}
        processes.envoy("envoy", envoy, json.dumps(moved(proxy(fields), ports)), ports[9901])
        for path in ("/", "/orders/7", "/direct"):
            for headers in ({}, {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}):
                try:
                    get(f"http://127.0.0.1:{ports[10000]}{path}", {**headers, "user-agent": "x" * 2 * CUT})
                except OSError as error:
                    check(path == "/direct", f"{path}: {error}")
        spans = wait_for("six spans", lambda: collector.spans if len(collector.spans) == 6 else None)
        printed = pathlib.Path(folder) / "envoy.log"
        wait_for("six lines", lambda: printed.read_text().count("\n{") >= 6 or None)
        return printed.read_text().splitlines(), spans


def as_cri(lines):
    """What containerd writes of these lines: a time, a stream and a tag before each, and long ones in parts."""
    time = datetime.datetime.now(datetime.UTC)
    lines = collections.deque(enumerate(lines))

    def parts(number, line):
        stamp = (time + datetime.timedelta(milliseconds=number)).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
        stream = "stdout" if line.startswith("{") else "stderr"
        cut = [line[i : i + CUT] for i in range(0, len(line), CUT)] or [""]
        return [f"{stamp} {stream} {'F' if part is cut[-1] else 'P'} {part}\n" for part in cut]

    while lines:
        number, line = lines.popleft()
        first, *rest = parts(number, line)
        yield first
        # It has two streams: a line of the other may come between the parts.
        if rest and line.startswith("{"):
            other = next((one for one in lines if not one[1].startswith("{") and len(one[1]) <= CUT), None)
            if other:
                lines.remove(other)
                yield from parts(*other)
        yield from rest


def value(any_value):
    kind = any_value.WhichOneof("value")
    return getattr(any_value, kind) if kind else None


def through_collector(program, lines, real):
    """The records that the pipeline makes of a pod's lines, each with its resource. A real Loki gets them too."""
    records = []

    class Loki(Quiet):
        def do_POST(self):
            check(self.path == "/otlp/v1/logs", self.path)
            message, body = ExportLogsServiceRequest(), self.body()
            if real:
                real.take(body)
            message.ParseFromString(body)
            for group in message.resource_logs:
                resource = {one.key: value(one.value) for one in group.resource.attributes}
                for scope in group.scope_logs:
                    records.extend((record, resource) for record in scope.log_records)
            self.answer()

    port = serve(Loki)
    with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
        log = pathlib.Path(folder) / "pods" / POD / "istio-proxy" / "0.log"
        log.parent.mkdir(parents=True)
        log.write_text("".join(as_cri(lines)))
        settings = [
            # The file is there already.
            "receivers::filelog::start_at: beginning",
            "exporters::otlphttp/loki::compression: none",
            "service::telemetry::metrics::level: none",
        ]
        command = [program, "--config", str(PIPELINE), *(f"--config=yaml:{one}" for one in settings)]
        places = {"POD_LOGS": str(log.parents[2]), "LOKI_ENDPOINT": f"http://127.0.0.1:{port}/otlp"}
        processes.start("otelcol", command, env={**os.environ, **places})
        wait_for("records", lambda: len(records) >= len(lines))
    return records


def judge_records(records, lines, spans, trace, span, path, start):
    check(len(records) == len(lines), f"{len(records)} records of {len(lines)} lines")
    ids = {(span.trace_id, span.span_id) for span in spans}
    found, levels, texts = set(), set(), []
    for record, resource in records:
        names = {key: resource.get(f"k8s.{key}") for key in ("namespace.name", "pod.name", "container.name")}
        check(list(names.values()) == ["shop", "shop-1", "istio-proxy"], f"resource {resource}")
        attributes = {one.key: value(one.value) for one in record.attributes}
        body = value(record.body)
        if body == AGENT:
            check(record.severity_number == 13 and not record.trace_id, f"{record}")
        elif body.startswith('{"'):
            check(body in lines, f"a line is cut: {body}")
            line = json.loads(body)
            check(record.trace_id.hex() == line[trace], f"{record}")
            check(record.span_id.hex() == line[span] and record.flags == 1, f"{record}")
            check(attributes[path] == line[path], f"{attributes}")
            begin = datetime.datetime.fromtimestamp(record.time_unix_nano / 1e9, datetime.UTC)
            check(begin.strftime("%Y-%m-%dT%H:%M:%S") == line[start][:19], f"{begin}: {line}")
            found.add((record.trace_id.hex(), record.span_id.hex()))
        else:
            texts.append(body)
            check(not record.trace_id and not record.span_id, f"a text has ids: {record}")
            if level := re.match(r"\[[^\]]+\]\[\d+\]\[(\w+)\]|\S+Z\t(\w+)\t", body):
                levels.add((level[1] or level[2], record.severity_number))
    check(found == ids, f"records of {found}, spans of {ids}")
    left = collections.Counter(line for line in lines if not line.startswith('{"'))
    left.subtract(texts)
    check(not any(left.values()), f"lines and records differ: { {line: n for line, n in left.items() if n} }")
    # OTLP's numbers: INFO is 9, WARN 13, ERROR 17, FATAL 21.
    wanted = {"info": 9, "warning": 13, "warn": 13, "error": 17, "critical": 21}
    check({("info", 9), ("warn", 13)} <= levels, f"severities {levels}")
    check(all(wanted.get(level, number) == number for level, number in levels), f"severities {levels}")


# As Istio's agent writes its lines, the second with `--log_as_json`.
AGENT = '{"level":"warn","time":"2026-11-28T12:00:00.000000Z","scope":"envoy config","msg":"gRPC config stream closed"}'
OTHERS = ["2026-11-28T12:00:00.000000Z\twarn\tenvoy config\tgRPC config stream closed", AGENT, "{no JSON", "plain"]


def judge_pod(program, real, lines, spans, *names):
    """The lines of a pod, with some of Istio's agent and two that nothing knows, as records."""
    lines = lines + OTHERS
    with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
        store = loki.Loki(processes, real, pathlib.Path(folder)) if real else None
        judge_records(through_collector(program, lines, store), lines, spans, *names)
        if store:
            store.judge(lines, *names[:2], ["shop", "shop-1", "istio-proxy"])


def judge_file(program, real, lines):
    """The access log of one Envoy, as a file, in Loki."""
    lines = [line for line in lines if line.startswith("{")]
    with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
        store = loki.Loki(processes, real, pathlib.Path(folder))
        log = pathlib.Path(folder) / "access.log"
        log.write_text("".join(f"{line}\n" for line in lines))
        places = {"ACCESS_LOG": str(log), "LOKI_ENDPOINT": f"{store.at}/otlp"}
        command = [program, "--config", str(PIPELINE.with_name("collector.yaml"))]
        command.append("--config=yaml:service::telemetry::metrics::level: none")
        processes.start("otelcol", command, env={**os.environ, **places})
        store.judge(lines, "trace_id", "span_id", [None] * 3)


def judge_lines(name, lines, spans, trace, span, parent):
    """The ids of the lines are those of the spans, under these names."""
    found = [json.loads(line) for line in lines if line.startswith("{")]
    by_id = {one.span_id: one for one in spans}
    check(len(found) == len(spans), f"{name}: {len(found)} lines")
    for line in found:
        exported = by_id[line[span]]
        check(line[trace] == exported.trace_id, f"{name}: {line}, {exported}")
        check((line.get(parent) or "") == exported.parent_id, f"{name}: {line}, {exported}")


# The tracers of Istio's providers, as istiod configures them.
ZIPKIN = {
    "@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
    "collector_cluster": "collector",
    "collector_endpoint": "/api/v2/spans",
    "collector_endpoint_version": "HTTP_JSON",
    "trace_id_128bit": True,
    "shared_span_context": False,
}
TRACERS = {
    "zipkin": ("envoy.tracers.zipkin", {**ZIPKIN, "trace_context_option": "USE_B3"}),
    "zipkin-with-w3c": (
        "envoy.tracers.zipkin",
        {**ZIPKIN, "trace_context_option": "USE_B3_WITH_W3C_PROPAGATION"},
    ),
    "opentelemetry": (
        "envoy.tracers.opentelemetry",
        {
            "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
            "service_name": "proxy",
            "grpc_service": {"envoy_grpc": {"cluster_name": "collector"}},
        },
    ),
}


def plugin(meshtrace, tracer, role):
    """The configuration of access_log_trace that the command line writes for these proxies."""
    command = [meshtrace, "render", "access-log-trace", "--istio", "1.28", "--tracer", tracer, "--for", role]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    [made] = [document for document in yaml.safe_load_all(text) if document and document["kind"] == "WasmPlugin"]
    return made["spec"]["pluginConfig"]


def listener(port, direction, tracer, config, log):
    filters = "type.googleapis.com/envoy.extensions.filters"
    provider, typed = TRACERS[tracer]
    wasm = {
        "name": f"access_log_trace_{port}",
        "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": "dist/access_log_trace.wasm"}}},
        "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": json.dumps(config)},
    }
    file = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
    entry = {"@type": file, "path": str(log), "log_format": {"json_format": form("mesh-config-istio.yaml")}}
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": f"manager_{port}",
        # As istiod: gateways report a span for each attempt.
        "tracing": {
            "provider": {"name": provider, "typed_config": typed},
            "spawn_upstream_span": config["spawn_upstream_span"],
        },
        "access_log": [{"name": "file", "typed_config": entry}],
        "http_filters": [
            {"name": "access_log_trace", "typed_config": {"@type": f"{filters}.http.wasm.v3.Wasm", "config": wasm}},
            {"name": "router", "typed_config": {"@type": f"{filters}.http.router.v3.Router"}},
        ],
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]}
            ]
        },
    }
    return {
        "name": f"listener_{port}",
        "traffic_direction": direction,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
    }


def beside(meshtrace, envoy):
    """Each tracer, in sidecars on the way in and out and at a gateway: a line's ids are those that the next hop was told."""
    application = Application("application")
    places = [("sidecar", "INBOUND"), ("sidecar", "OUTBOUND"), ("gateway", "OUTBOUND")]
    cases = [(tracer, role, direction) for tracer in TRACERS for role, direction in places]
    with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
        endpoints = {"app": application.port, "collector": free_port()}
        clusters = []
        for name, port in endpoints.items():
            address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
            assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}
            clusters.append({"name": name, "load_assignment": assignment, **(HTTP2 if name == "collector" else {})})
        listeners, at = [], {}
        for number, (tracer, role, direction) in enumerate(cases):
            at[number] = free_port(), pathlib.Path(folder) / f"{number}.log"
            listeners.append(listener(at[number][0], direction, tracer, plugin(meshtrace, tracer, role), at[number][1]))
        admin = free_port()
        address = {"socket_address": {"address": "127.0.0.1", "port_value": admin}}
        static = {"listeners": listeners, "clusters": clusters}
        processes.envoy("envoy", envoy, json.dumps({"admin": {"address": address}, "static_resources": static}), admin)
        for number, (tracer, role, direction) in enumerate(cases):
            port, log = at[number]
            path = f"/{number}"
            get(f"http://127.0.0.1:{port}{path}")
            [told] = application.asked(path)
            [line] = wait_for(f"line of {path}", lambda of=log: lines_of(of))
            case = f"{tracer} {role} {direction}: {line}, {told}"
            if header := told.get("traceparent"):
                trace_id, span_id = header.split("-")[1:3]
            else:
                trace_id, span_id = told["x-b3-traceid"], told["x-b3-spanid"]
            check(line["trace_id"] == trace_id, case)
            # At a gateway the next hop is told the span of the attempt, which is not the request's.
            check(line["span_id"] == span_id if role == "sidecar" else line["span_id"] != span_id, case)
    return len(cases)


def shippers(plain, ecs):
    """What Filebeat and Fluent Bit rename is what the access log has, and becomes what ECS calls it. They are not run here."""
    by_format = {format_: name for name, format_ in ecs.items()}
    wanted = {name: by_format[format_] for name, format_ in plain.items() if format_ in by_format}
    folder = pathlib.Path("examples/access-log")
    for ending in ("", "-kubernetes"):
        beat = yaml.safe_load((folder / f"filebeat{ending}.yaml").read_text())["processors"]
        [rename] = [step["rename"]["fields"] for step in beat if "rename" in step]
        renamed = {one["from"].removeprefix("envoy."): one["to"] for one in rename}
        bit = yaml.safe_load((folder / f"fluent-bit{ending}.yaml").read_text())["pipeline"]["filters"]
        [modify] = [step["rename"] for step in bit if step["name"] == "modify"]
        check(dict(line.split(" ") for line in modify) == renamed, f"Filebeat and Fluent Bit differ: {renamed}, {modify}")
        check({"trace_id", "span_id", "parent_span_id"} <= set(renamed), f"{renamed}")
        for name, target in renamed.items():
            check(wanted.get(name) == target, f"{name} becomes {target}; ECS: {wanted.get(name)}")


def metadata_of_pods():
    """Filebeat knows the pod of a file by the id in its name, where the processor is told the folder of the input."""
    tree = yaml.safe_load(pathlib.Path("examples/access-log/filebeat-kubernetes.yaml").read_text())
    [processor] = [step["add_kubernetes_metadata"] for step in tree["processors"] if "add_kubernetes_metadata" in step]
    [matcher] = processor["matchers"]
    for path in tree["filebeat.inputs"][0]["paths"]:
        folder = matcher["logs_path"]["logs_path"]
        check(path.startswith(folder) and folder.startswith("/var/log/containers/"), f"{path} is not below {folder}")


def main():
    program, meshtrace, first, last = sys.argv[1:5]
    real = (sys.argv[5:] or [None])[0]
    ids = {"trace_id", "span_id", "parent_span_id", "trace_flags", "trace_format"}
    istio = form("mesh-config-istio.yaml")
    check(len(set(istio) - ids) == 24, f"Istio's fields: {sorted(set(istio) - ids)}")
    check(rendered(meshtrace, "istio") == istio, "the file is not what the command line renders")
    ecs = rendered(meshtrace, "ecs")
    shippers(form("mesh-config.yaml"), ecs)
    shippers(istio, ecs)
    metadata_of_pods()
    seen = beside(meshtrace, first) + beside(meshtrace, last)
    of_ecs = lines, spans = requests(last, ecs)
    judge_lines("ecs", lines, spans, "trace.id", "span.id", "parent.id")
    answered = {line["http.response.status_code"] for line in (json.loads(line) for line in lines if line.startswith("{"))}
    check(answered == {200, 404}, f"ecs: {answered}")
    for name, envoy, fields in [("plain", first, form("mesh-config.yaml")), ("istio", first, istio), ("istio", last, istio)]:
        lines, spans = requests(envoy, fields)
        judge_lines(name, lines, spans, "trace_id", "span_id", "parent_span_id")
    judge_pod(program, real, lines, spans, "trace_id", "span_id", "path", "start_time")
    if real:
        judge_file(program, real, lines)
    judge_pod(program, real, *of_ecs, "trace.id", "span.id", "url.path", "@timestamp")
    print(f"==> logs: {seen} places of tracers, 3 forms, {len(lines)} lines of a pod in a Collector{' and in Loki' if real else ''}", file=sys.stderr)


main()
