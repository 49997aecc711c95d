"""Jaeger in one process, and its HTTP API."""

import json
import os
import pathlib
import sys
import time
import urllib.parse

FOLDER = pathlib.Path(__file__).parent
sys.path.append(str(FOLDER.parent))

from parts import free_port, get  # noqa: E402  # the folder above is no package


class Jaeger:
    def __init__(self, processes, program, query=None):
        """Starts Jaeger among the processes, at this port where there is one, and returns when it answers."""
        self.query, self.otlp, self.zipkin, self.grpc = query or free_port(), free_port(), free_port(), free_port()
        addresses = {
            "JAEGER_QUERY": self.query,
            "JAEGER_QUERY_GRPC": self.grpc,
            "JAEGER_OTLP": self.otlp,
            "JAEGER_ZIPKIN": self.zipkin,
        }
        variables = {name: f"127.0.0.1:{port}" for name, port in addresses.items()}
        variables["JAEGER_PAGE"] = str(FOLDER / "page")
        command = [program, "--config", str(FOLDER / "jaeger.yaml")]
        processes.start("jaeger", command, env={**os.environ, **variables})
        processes.wait_for("answer of Jaeger", lambda: get(f"http://127.0.0.1:{self.query}/api/services"))

    def ask(self, path, **parameters):
        """The data of an answer. Jaeger says null where it has none."""
        query = urllib.parse.urlencode(parameters)
        return json.loads(get(f"http://127.0.0.1:{self.query}/api/{path}?{query}"))["data"] or []

    def dependencies(self):
        """The edges of the graph, with how many calls each has."""
        edges = self.ask("dependencies", endTs=int(time.time() * 1000) + 60_000, lookback=3_600_000)
        return sorted([edge["parent"], edge["child"], edge["callCount"]] for edge in edges)

    def traces(self, service, tags=None, **parameters):
        """The traces that a search finds, as Jaeger's page and Kiali ask: times in microseconds, tags as JSON."""
        now = int(time.time())
        window = {"start": (now - 3600) * 10**6, "end": (now + 60) * 10**6}
        if tags:
            parameters["tags"] = json.dumps(tags)
        return self.ask("traces", service=service, **window, **parameters)


def tags_of(entry):
    return {tag["key"]: tag["value"] for tag in entry["tags"]}
