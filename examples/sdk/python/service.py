"""Asks the next service, where NEXT has its address, and says who answered. Knows nothing of tracing."""

import os

import requests
from flask import Flask

app = Flask("service")


@app.get("/python")
def answer():
    following = os.environ.get("NEXT")
    return "python" + (" " + requests.get(following, timeout=10).text if following else "")
