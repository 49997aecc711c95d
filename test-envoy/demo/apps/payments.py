"""Charges a card. Knows nothing of tracing."""

import time

from flask import Flask
from werkzeug.serving import make_server

app = Flask("payments")


@app.get("/charge")
def charge():
    time.sleep(0.02)  # stands for the card network: long enough to see in a waterfall
    return {"charged": True}


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app)
    print(f"listening on {server.port}", flush=True)
    server.serve_forever()
