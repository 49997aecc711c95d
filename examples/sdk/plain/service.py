"""Asks the next service, where NEXT has its address, and says who answered. It has no SDK, and copies no header."""

import http.server
import os
import urllib.request


class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        following = os.environ.get("NEXT")
        behind = " " + urllib.request.urlopen(following, timeout=10).read().decode() if following else ""
        body = f"plain{behind}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Service).serve_forever()
