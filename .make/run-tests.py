"""run-tests.py <list>: runs the tests of a list that `cargo test --no-run --message-format=json` wrote.

One process runs the tests of one file, one after the other, so that no two tests of a file share a processor: a file
is a module of a binary of test-envoy/tests/, or all of another test binary. Most tests wait for Envoys half of their
time, so twice as many processes as cores run side by side (TEST_JOBS: another number). Every test is one line with its
seconds. The output of those that failed follows at the end; the last lines are their names.
"""

import concurrent.futures
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import time

JOBS = int(os.environ.get("TEST_JOBS") or 2 * len(os.sched_getaffinity(0)))
# The seconds of each file in the last run: what takes longest begins first, and does not run alone at the end.
SECONDS = pathlib.Path("target/test-seconds.json")
RESULT = re.compile(r"test (.+?)(?: - should panic)? \.\.\. (ok|FAILED|ignored)")


def files(lines):
    """What to run: the name of each file, its command, and the folder of its package, where cargo runs it too."""
    found = []
    for artifact in map(json.loads, lines):
        if artifact["reason"] != "compiler-artifact" or not artifact["profile"]["test"] or not artifact["executable"]:
            continue
        folder = os.path.dirname(artifact["manifest_path"])
        source = os.path.relpath(artifact["target"]["src_path"])
        program = artifact["executable"]
        if source.startswith("test-envoy/tests/"):
            found += modules(os.path.dirname(source), program, folder)
        else:
            found.append((source, [program], folder))
    return found


def modules(binary, program, folder):
    """The modules of a binary that have tests, each with the names of its tests as the arguments."""
    listed = subprocess.run([program, "--list", "--format=terse"], stdout=subprocess.PIPE, text=True, check=True)
    names = [line.removesuffix(": test") for line in listed.stdout.splitlines() if line.endswith(": test")]
    for module, tests in itertools.groupby(sorted(names), lambda name: name.rpartition("::")[0]):
        yield f"{binary}/{module.replace('::', '/')}", [program, "--exact", *tests], folder


def run(file):
    """Runs the tests of a file; tells the name of each, its result and its seconds, and what was printed."""
    name, command, folder = file
    begin = last = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(os.environ, RUST_TEST_THREADS="1"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    tests, output = [], []
    for line in process.stdout:
        output.append(line)
        if result := RESULT.match(line):
            now = time.monotonic()
            tests.append((f"{name}: {result[1].rpartition('::')[2]}", result[2], now - last))
            last = now
    code = process.wait()
    if code != 0 and not any(result == "FAILED" for _, result, _ in tests):
        tests.append((f"{name}, which ended with {code}", "FAILED", time.monotonic() - last))
    return name, tests, "".join(output), time.monotonic() - begin


def last_seconds():
    try:
        return json.loads(SECONDS.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def main():
    with open(sys.argv[1], encoding="utf-8") as lines:
        todo = files(lines)
    if not todo:
        sys.exit("error: cargo listed no test binary")
    seconds = last_seconds()
    # What was never run, and starts Envoys, may take longest.
    todo.sort(key=lambda file: (-seconds.get(file[0], 1e3 if file[0].startswith("test-envoy/") else 0), file[0]))
    todo.append(("documentation", ["cargo", "test", "--workspace", "--locked", "--doc"], "."))

    begin = time.monotonic()
    counts, failed = {"ok": 0, "ignored": 0, "FAILED": 0}, []
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for future in concurrent.futures.as_completed([pool.submit(run, file) for file in todo]):
            file, tests, output, seconds[file] = future.result()
            for name, result, took in tests:
                counts[result] += 1
                print(f"{result:7} {took:6.1f} s  {name}", flush=True)
            names = [name for name, result, _ in tests if result == "FAILED"]
            if names:
                failed.append((names, output))
    SECONDS.write_text(json.dumps(seconds), encoding="utf-8")

    for names, output in failed:
        print(f"\n==> {', '.join(names)}\n{output.rstrip()}")
    print(
        f"\n{counts['ok']} tests passed, {counts['ignored']} are ignored here, {counts['FAILED']} failed, "
        f"in {time.monotonic() - begin:.0f} s"
    )
    if failed:
        sys.exit("\n".join(f"FAILED: {name}" for names, _ in failed for name in sorted(names)))


main()
