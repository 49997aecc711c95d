"""Charges a card with what the storefront says the order costs. Knows nothing of tracing."""

import os
import time

import requests
from flask import Flask
from werkzeug.serving import make_server

app = Flask("payments")


@app.get("/charge")
def charge():
    order = requests.get(os.environ["STOREFRONT_URL"] + "/order", timeout=10)
    order.raise_for_status()
    time.sleep(0.02)  # stands for the card network: long enough to see in a waterfall
    return {"charged": order.json()["total"]}


if __name__ == "__main__":
    # The socket listens already: the proxies know its port before any application runs.
    server = make_server("127.0.0.1", 0, app, threaded=True, fd=int(os.environ["LISTEN_FD"]))
    print("ready", flush=True)
    server.serve_forever()
