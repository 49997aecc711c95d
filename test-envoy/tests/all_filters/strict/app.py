"""A strict HTTP/2 upstream: prints its port, and serves until its standard input ends.

The answer says over which connection the request came (`x-connection`, the peer's port) and which headers it had
(`x-seen`, JSON of names and values in Latin-1). `/hold` is answered after `/release`; `/held` says how many wait.
"""

import asyncio
import json
import socket
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config

waiting = []


async def answer(scope):
    if scope["path"] == "/hold":
        turn = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        await turn
    elif scope["path"] == "/held":
        return str(len(waiting)).encode()
    elif scope["path"] == "/release":
        while waiting:
            turn = waiting.pop()
            if not turn.done():
                turn.set_result(None)
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    return json.dumps(headers).encode()


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    # Hypercorn fails on a body that comes after the answer.
    while (await receive()).get("more_body"):
        pass
    body = await answer(scope)
    headers = [
        (b"content-length", str(len(body)).encode()),
        (b"x-connection", str(scope["client"][1]).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def main():
    listening = socket.create_server(("127.0.0.1", 0))
    config = Config()
    config.bind = [f"fd://{listening.fileno()}"]
    config.h2_max_header_list_size = 4 * 1024 * 1024
    config.h2_max_concurrent_streams = 1000
    config.keep_alive_max_requests = 1_000_000_000
    config.keep_alive_timeout = 600
    config.loglevel = "CRITICAL"
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), over.set)
    print(listening.getsockname()[1], flush=True)
    await serve(app, config, shutdown_trigger=over.wait)


asyncio.run(main())
