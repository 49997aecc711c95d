"""bench-table.py divan | join <section>… | show <bench.json>: what .make/bench.sh does with its numbers.

A section is {"name", "unit", "statistic", "rows"}; a row is {"operation", "case", "ours", "others": {name: value}}, or
{"name", "us", "more", "more_quartiles", "spans": {name: number}, "resident_bytes": {moment: bytes}} of what a
request costs.
"""

import datetime
import json
import os
import platform
import re
import subprocess
import sys

NANOSECONDS = {"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9}
# ├─ name   fastest │ slowest │ median │ mean │ samples │ iters; three columns a level.
LINE = re.compile(r"^(?P<tree>[│├╰─ ]*)(?P<name>[\w.-]+) +(?P<times>[\d.].*)?")


def divan(lines):
    """The medians of the tree that divan prints: operation, who, case."""
    path, medians = [], {}
    for line in lines:
        match = LINE.match(line)
        if not match or not match["tree"]:
            continue
        depth = len(match["tree"]) // 3
        path = path[: depth - 1] + [match["name"]]
        if match["times"]:
            number, unit = match["times"].split("│")[2].split()
            medians[tuple(path)] = round(float(number) * NANOSECONDS[unit], 1)
    rows = []
    for (operation, who, case), value in medians.items():
        if who == "ours":
            others = {
                other: time
                for (o, other, c), time in medians.items()
                if (o, c) == (operation, case) and other != "ours"
            }
            rows.append({"operation": operation, "case": case, "ours": value, "others": others})
    if not rows:
        sys.exit("error: there is no benchmark in what divan printed")
    return {"name": "propagators", "unit": "ns", "statistic": "median", "rows": rows}


def join(sections):
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True)
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            cpu = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    bodies = []
    for section in sections:
        with open(f"{section}.json", encoding="utf-8") as file:
            bodies.append(json.load(file))
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": {"cpu": cpu, "cores": os.cpu_count(), "rustc": rustc.stdout.strip()},
        "sections": bodies,
    }


def show(bench):
    machine = bench["machine"]
    print(f"{bench['date']}, {machine['cores']} cores, {machine['cpu']}, {machine['rustc']}")
    for section in bench["sections"]:
        print(f"\n{section['name']}: {section['statistic']} in {section['unit']}")
        if section["name"] == "requests":
            requests(section)
            continue
        row = "{:<10} {:<15} {:>8}   {:<22} {:>8} {:>7}"
        print(row.format("", "", "ours", "beside", "", "ratio"))
        for entry in section["rows"]:
            operation, case, ours = entry["operation"], entry["case"], f"{entry['ours']:.1f}"
            for name, value in entry["others"].items() or [("", None)]:
                ratio = "" if value is None else f"1 : {value / entry['ours']:.1f}"
                other = "" if value is None else f"{value:.1f}"
                print(row.format(operation, case, ours, name, other, ratio).rstrip())
                operation = case = ours = ""


def requests(section):
    print(f"Envoy {section['envoy']}, one worker, proxied")
    rows = {entry["name"]: entry for entry in section["rows"]}
    native = [rows.get("OTel tracer, batches of 512"), rows.get("OTel tracer, defaults")]
    row = "{:<38} {:>7} {:>7} {:>16} {:>7} {:>9} {:>17}  {}"
    print(row.format("", "µs", "more", "quartiles", ": tuned", ": default", "MiB", "spans"))
    for name, entry in rows.items():
        quartiles = "{:+.1f} to {:+.1f}".format(*entry["more_quartiles"])
        beside = [f"{entry['more'] / of['more']:.2f}" if of and of["more"] > 0 else "" for of in native]
        spans = ", ".join(f"{name} {number}" for name, number in entry["spans"].items())
        memory = " ".join(f"{resident / 2**20:.1f}" for resident in entry["resident_bytes"].values())
        numbers = [f"{entry['us']:.1f}", f"{entry['more']:+.1f}", quartiles, *beside, memory]
        print(row.format(name, *numbers, spans).rstrip())
    print("more: than the first row, in the same round; : tuned, : default: of what Envoy's OpenTelemetry tracer costs")
    print("more in batches of 512 spans, and with its defaults; MiB: resident at first, after the rounds, and of the first")
    print("row and the tracers after 100,000 requests")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["divan"]:
            json.dump(divan(sys.stdin), sys.stdout)
        case ["join", *sections]:
            json.dump(join(sections), sys.stdout, indent=2)
            print()
        case ["show", path]:
            with open(path, encoding="utf-8") as file:
                show(json.load(file))
        case _:
            sys.exit(__doc__)
