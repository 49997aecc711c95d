"""What the tests with real back ends share: ports, requests, waiting, and an Envoy as a process."""

import signal
import socket
import subprocess
import sys
import time
import urllib.request

# A machine that compiles meanwhile starts a JVM in minutes.
WAIT = 300


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(url, headers=None):
    request = urllib.request.Request(url, headers=headers or {})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read().decode()


def wait_for(what, test):
    """Calls `test` until it returns something."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        try:
            found = test()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.2)
    sys.exit(f"error: no {what} within {WAIT} seconds")


class Processes:
    """Processes that end with a block. What they print goes to files of `folder`."""

    def __init__(self, folder):
        self.folder, self.running = folder, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running:
            process.send_signal(signal.SIGTERM)
            process.wait()

    def start(self, name, command, **options):
        self.log = self.folder / f"{name}.log"
        with open(self.log, "w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, **options)
        self.running.append(process)
        return process

    def wait_for(self, what, test):
        """As the function. What the process that was started last has written is told where it ends, or is too slow."""
        process, log = self.running[-1], self.log

        def alive():
            if process.poll() is not None:
                sys.exit(f"error: no {what}: {process.args[0]} has ended")
            return test()

        try:
            return wait_for(what, alive)
        except SystemExit:
            print(log.read_text()[-4000:], file=sys.stderr)
            raise

    def envoy(self, name, program, config, admin):
        """Starts an Envoy with this configuration, and waits until it is ready."""
        path = self.folder / f"{name}.yaml"
        path.write_text(config)
        command = [program, "--config-path", str(path), "--use-dynamic-base-id", "--concurrency", "1"]
        # Access logs are written every ten seconds otherwise.
        command += ["--file-flush-interval-msec", "100"]
        process = self.start(name, command)

        def ready():
            if process.poll() is not None:
                sys.exit(f"error: Envoy has ended: {(self.folder / f'{name}.log').read_text()[-2000:]}")
            return get(f"http://127.0.0.1:{admin}/ready")

        wait_for("Envoy", ready)
