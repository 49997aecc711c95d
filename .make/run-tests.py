"""run-tests.py <list>: runs the test binaries of a list that `cargo test --no-run --message-format=json` wrote.

Cargo itself runs one after the other, and most of them wait for Envoys much of their time: here as many run side by
side as there are cores. All run, the last lines say which failed.
"""

import concurrent.futures
import json
import os
import subprocess
import sys
import time


def binaries(lines):
    """What to run of each: its name, its command and the folder of its package, where cargo runs it too."""
    found = []
    for artifact in map(json.loads, lines):
        if artifact["reason"] != "compiler-artifact" or not artifact["profile"]["test"] or not artifact["executable"]:
            continue
        folder = os.path.dirname(artifact["manifest_path"])
        source = os.path.relpath(artifact["target"]["src_path"])
        found.append((source, [artifact["executable"]], folder))
    # What starts Envoys takes longest: at the end of the list it would run alone.
    return sorted(found, key=lambda binary: (not binary[0].startswith("test-envoy/"), binary[0]))


def run(test):
    """Runs one to its end, and tells its output and whether it passed."""
    name, command, folder = test
    begin = time.monotonic()
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return name, done.returncode == 0, time.monotonic() - begin, done.stdout.decode(errors="replace")


def main():
    with open(sys.argv[1], encoding="utf-8") as lines:
        tests = binaries(lines)
    if not tests:
        sys.exit("error: cargo listed no test binary")
    tests.append(("documentation", ["cargo", "test", "--workspace", "--locked", "--doc"], "."))
    failed = []
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for future in concurrent.futures.as_completed([pool.submit(run, test) for test in tests]):
            name, passed, seconds, output = future.result()
            print(f"{output.rstrip()}\n==> {name}: {'ok' if passed else 'FAILED'}, {seconds:.0f} s", flush=True)
            if not passed:
                failed.append(name)
    if failed:
        sys.exit("FAILED: " + ", ".join(sorted(failed)))


main()
