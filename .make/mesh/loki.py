"""Loki in one process: it takes what the Collector exports, and is asked as Grafana's data sources of the example ask it."""

import json
import pathlib
import re
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml
from example import check
from parts import free_port, get, wait_for

SOURCES = pathlib.Path("examples/access-log/grafana-datasources.yaml")


def settings(folder, port):
    """Everything in a folder, and nothing that calls out."""
    here = "127.0.0.1"
    store = {"store": "tsdb", "object_store": "filesystem", "schema": "v13", "index": {"prefix": "index_", "period": "24h"}}
    return {
        "auth_enabled": False,
        "server": {
            "http_listen_address": here,
            "http_listen_port": port,
            "grpc_listen_address": here,
            "grpc_listen_port": free_port(),
            "log_level": "warn",
        },
        "common": {
            "instance_addr": here,
            "path_prefix": str(folder),
            "replication_factor": 1,
            "ring": {"kvstore": {"store": "inmemory"}},
            "storage": {"filesystem": {"chunks_directory": str(folder / "chunks"), "rules_directory": str(folder / "rules")}},
        },
        "schema_config": {"configs": [{"from": "2024-01-01", **store}]},
        "analytics": {"reporting_enabled": False},
    }


def sources():
    """How Grafana finds the trace of a line, and the lines of a span: a pattern for labels, and a query."""
    of = {source["type"]: source["jsonData"] for source in yaml.safe_load(SOURCES.read_text())["datasources"]}
    [field] = of["loki"]["derivedFields"]
    back = of["tempo"]["tracesToLogsV2"]
    check(field["matcherType"] == "label" and field["url"] == "$${__value.raw}", f"{field}")
    check(back["customQuery"] is True, f"{back}")
    # Provisioning makes one dollar of two.
    return re.compile(field["matcherRegex"]), back["query"].replace("$$", "$")


class Loki:
    def __init__(self, processes, program, folder):
        self.at = f"http://127.0.0.1:{(port := free_port())}"
        config = folder / "loki.yaml"
        config.write_text(yaml.safe_dump(settings(folder / "loki", port)))
        processes.start("loki", [program, f"-config.file={config}", "-target=all"])
        wait_for("answer of Loki", lambda: get(f"{self.at}/loki/api/v1/labels"))

    def take(self, body):
        """Gives it an export as the Collector sends it, at the path where the Collector sends it."""
        headers = {"content-type": "application/x-protobuf"}

        def sent():
            try:
                with urllib.request.urlopen(urllib.request.Request(f"{self.at}/otlp/v1/logs", body, headers), timeout=20) as said:
                    return said.status in (200, 204)
            except urllib.error.HTTPError as error:
                # It has just begun.
                check(error.code >= 500, f"Loki refuses the export: {error.read()}")
                return False

        wait_for("export that Loki takes", sent)

    def query(self, query):
        """The lines that a query finds, each with its labels, to which Loki adds the structured metadata."""
        now = time.time_ns()
        window = {"start": now - 3600 * 10**9, "end": now + 60 * 10**9, "limit": 1000}
        answer = get(f"{self.at}/loki/api/v1/query_range?{urllib.parse.urlencode({'query': query, **window})}")
        return [(line, stream["stream"]) for stream in json.loads(answer)["data"]["result"] for _, line in stream["values"]]

    def judge(self, lines, trace, span, pod):
        """By the query of a span Grafana finds the lines of its trace; of each line a label opens that trace."""
        label, query = sources()
        requests = [json.loads(line) for line in lines if line.startswith('{"') and trace in line]
        ids = {request[trace] for request in requests}
        found = wait_for("lines in Loki", lambda: all_of if len(all_of := self.query('{service_name=~".+"}')) >= len(lines) else None)
        check(len(found) == len(lines), f"{len(found)} lines in Loki, of {len(lines)}")
        for trace_id in ids:
            wanted = [request for request in requests if request[trace] == trace_id]
            told = self.query(query.replace("${__trace.traceId}", trace_id))
            check(len(told) == len(wanted), f"{trace_id}: {told}, not {wanted}")
            for line, labels in told:
                request = json.loads(line)
                check(request in wanted and labels["span_id"] == request[span], f"{line}: {labels}")
                opened = [value for name, value in labels.items() if label.fullmatch(name)]
                check(opened == [trace_id], f"{line} opens {opened}")
                names = [labels.get(f"k8s_{key}") for key in ("namespace_name", "pod_name", "container_name")]
                check(names == pod, f"{labels}")
        check(not self.query(query.replace("${__trace.traceId}", "0" * 31 + "1")), "lines of a trace that nobody has")
        check(not [line for line, labels in found if "trace_id" in labels and not line.startswith('{"')], "a text has a trace")
