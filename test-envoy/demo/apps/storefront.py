"""The shop's front: takes an order, has it paid, and tells what is in it. Knows nothing of tracing."""

import os

import requests
from flask import Flask
from werkzeug.serving import make_server

app = Flask("storefront")


@app.get("/checkout")
def checkout():
    payment = requests.get(os.environ["PAYMENTS_URL"] + "/charge", timeout=10)
    payment.raise_for_status()
    return {"order": "accepted", "payment": payment.json()}


@app.get("/order")
def order():
    return {"total": 42}


if __name__ == "__main__":
    # The socket listens already: the proxies know its port before any application runs.
    server = make_server("127.0.0.1", 0, app, threaded=True, fd=int(os.environ["LISTEN_FD"]))
    print("ready", flush=True)
    server.serve_forever()
