#!/usr/bin/env python3
"""application.py <name> <port>…: an application for the examples beside. It answers with its name, the host that it was
asked for, and the trace headers that it was sent, a line each. A name is followed by its ports."""

import http.server
import sys
import threading

TOLD = ("host", "traceparent", "tracestate", "baggage", "x-b3-", "x-tier")


def handler(name):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            lines = [name] + [f"{key.lower()}: {value}" for key, value in self.headers.items() if key.lower().startswith(TOLD)]
            body = "\n".join(lines + [""]).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def main():
    name, servers = "", []
    for word in sys.argv[1:]:
        if not word.isdigit():
            name = word
            continue
        server = http.server.ThreadingHTTPServer(("127.0.0.1", int(word)), handler(name))
        servers.append(threading.Thread(target=server.serve_forever))
    if not servers:
        sys.exit(__doc__)
    for server in servers:
        server.start()


main()
