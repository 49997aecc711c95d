"""demo.py <jaeger> <command>…: runs the demo beside a Jaeger that gets its spans, and goes on until Enter or Ctrl-C.

Without a terminal it ends with the demo.
"""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile

sys.path.append(str(pathlib.Path(__file__).parents[1]))

from parts import Processes, free_port  # noqa: E402  # the folder above is no package
from server import Jaeger  # noqa: E402

# Where everybody looks for it.
USUAL = 16686


def page_port():
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", USUAL))
        except OSError:
            return free_port()
    return USUAL


def main():
    program, *command = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
        jaeger = Jaeger(processes, program, page_port())
        page = f"http://127.0.0.1:{jaeger.query}/"
        environment = {**os.environ, "DEMO_JAEGER_OTLP": f"127.0.0.1:{jaeger.otlp}"}
        stays = sys.stdin.isatty() and sys.stdout.isatty()
        if stays:
            environment["DEMO_JAEGER_PAGE"] = page
        # Ctrl-C reaches the demo too.
        status = subprocess.run(command, env=environment).returncode
        if status != 0:
            return status
        found = {trace["traceID"] for service in jaeger.ask("services") for trace in jaeger.traces(service)}
        if not stays:
            print(f"\nJaeger got {len(found)} traces. It ends with the demo, as nobody is at a terminal.")
            return 0
        print(f"\nJaeger has {len(found)} traces: {page}")
        print("The page there is a small one of this project, over Jaeger's API. Jaeger's own page is in its container:")
        print("  docker run --rm -p 16686:16686 -p 4318:4318 jaegertracing/jaeger:2.11.0")
        print("  make demo JAEGER=127.0.0.1")
        print("\nJaeger runs until you press Enter or Ctrl-C.", flush=True)
        try:
            sys.stdin.readline()
        except KeyboardInterrupt:
            print()
        return 0


if __name__ == "__main__":
    # So that Jaeger ends with this, however it ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
