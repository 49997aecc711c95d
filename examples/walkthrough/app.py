"""One service of the walk-through: it calls others through its sidecar, and copies one trace format.

NAME      the service's name
FORMAT    the format that it copies: w3c or b3multi. It knows no other
CALLS     the services that it calls, with commas between them
SIDECAR   where the outbound listener of its sidecar is
PORT      where it listens
"""

import http.server
import os
import urllib.error
import urllib.request

NAME = os.environ["NAME"]
CALLS = [name for name in os.environ.get("CALLS", "").split(",") if name]
SIDECAR = os.environ.get("SIDECAR", "http://127.0.0.1:15001")
COPIED = {
    "w3c": ["traceparent", "tracestate"],
    "b3multi": ["x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"],
}[os.environ.get("FORMAT", "w3c")]


class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        copied = {name: self.headers[name] for name in COPIED if self.headers[name]}
        status, lines = 200, [f"{NAME}: {', '.join(copied) or 'no trace header'}"]
        if NAME == "payments" and self.path.endswith("/fail"):
            status = 500
        for service in CALLS:
            request = urllib.request.Request(SIDECAR + self.path, headers={**copied, "Host": service})
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    lines.append(answer.read().decode().rstrip())
            except urllib.error.HTTPError as error:
                status = 502
                lines.append(f"{service}: {error.code}")
        body = ("\n".join(lines) + "\n").encode()
        self.send_response(status)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(
    (os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8080"))), Service
).serve_forever()
