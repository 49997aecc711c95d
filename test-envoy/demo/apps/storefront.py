"""The shop's front: takes an order and has it paid. Knows nothing of tracing."""

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


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app)
    print(f"listening on {server.port}", flush=True)
    server.serve_forever()
