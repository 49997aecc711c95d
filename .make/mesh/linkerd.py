"""linkerd.py <envoy>…: what Linkerd's proxy reads of the headers that leave an Envoy with trace_context.

Linkerd's proxy cannot be had here. So its rules are stated again, those of both of its generations: parsers of its own
(linkerd/trace-context in its source) and, later, OpenTelemetry's propagators in an order of its own (linkerd/opentelemetry).
The first vectors are those of its own tests.
"""

import http.client
import json
import pathlib
import re
import sys
import tempfile

from example import check, with_ports
from parts import Processes

EXAMPLE = pathlib.Path("examples/trace-context/envoy.yaml")
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
OTHER = "80f198ee56343ba864fe8b2a57d3eff7"


def id_of(text, digits):
    """An id in hexadecimal digits, with zeros before a short one."""
    if not re.fullmatch(r"([0-9a-fA-F]{2})*", text):
        return None
    return text.lower().rjust(digits, "0")


def w3c_of_its_own(headers):
    parts = headers.get("traceparent", "").split("-")
    if len(parts) != 4 or parts[0] != "00" or not re.fullmatch(r"[0-9a-fA-F]{2}", parts[3]):
        return None
    if not parts[1].strip("0") or not parts[2].strip("0"):
        return None
    trace_id, span_id = id_of(parts[1], 32), id_of(parts[2], 16)
    return (trace_id, span_id, bool(int(parts[3], 16) & 1)) if trace_id and span_id else None


def own_parsers(headers):
    """W3C, then x-b3-*; `grpc-trace-bin`, between them, is not sent here. No `b3`, no x-b3-flags."""
    if context := w3c_of_its_own(headers):
        return context
    if "x-b3-spanid" not in headers or "x-b3-traceid" not in headers:
        return None
    trace_id, span_id = id_of(headers["x-b3-traceid"], 32), id_of(headers["x-b3-spanid"], 16)
    return (trace_id, span_id, headers.get("x-b3-sampled") == "1") if trace_id and span_id else None


def valid(trace_id, span_id, sampled):
    is_id = re.fullmatch(r"[0-9a-f]{32}", trace_id) and re.fullmatch(r"[0-9a-f]{16}", span_id)
    return (trace_id, span_id, sampled) if is_id and trace_id.strip("0") and span_id.strip("0") else None


def propagators(headers):
    """Where a header of W3C is, W3C alone; else B3 where a header of the multi form is, and then `b3` before that form."""
    if "traceparent" in headers or "tracestate" in headers:
        parts = headers.get("traceparent", "").split("-")
        if len(parts) < 4 or not re.fullmatch(r"[0-9a-f]{2}", parts[0]) or parts[0] == "ff" or len(parts[3]) != 2:
            return None
        if parts[0] == "00" and (len(parts) != 4 or not re.fullmatch(r"0[0-7]|00", parts[3])):
            return None
        return valid(parts[1], parts[2], bool(int(parts[3], 16) & 1)) if re.fullmatch(r"[0-9a-f]{2}", parts[3]) else None
    if not any(name in headers for name in ("x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-flags")):
        return None
    single = headers.get("b3", "").split("-")
    if 2 <= len(single) <= 4 and (len(single) == 2 or single[2] in ("0", "1", "true", "false")):
        if context := valid(single[0].rjust(32, "0"), single[1].rjust(16, "0"), single[2:3] in (["1"], ["true"])):
            return context
    sampled = headers.get("x-b3-sampled")
    is_debug = headers.get("x-b3-flags") == "1"
    if not is_debug and sampled not in (None, "0", "1", "true", "false"):
        return None
    decision = is_debug or sampled in ("1", "true")
    return valid(headers.get("x-b3-traceid", "").rjust(32, "0"), headers.get("x-b3-spanid", "").rjust(16, "0"), decision)


READERS = {"its own parsers": own_parsers, "OpenTelemetry's propagators": propagators}

# Of Linkerd's own tests.
ITS_TESTS = [
    ("00-94d7f6ec6b95f3e916179cb6cfd01390-55ccfce77f972614-01", True),
    ("00-94d7f6ec6b95f3e916179cb6cfd01390-55ccfce77f972614-011", False),
    ("00-94d7f6ec6b95f3e916179cb6cfd01390-55ccfce77f972614", False),
    ("22-94d7f6ec6b95f3e916179cb6cfd01390-55ccfce77f972614-01", False),
    ("94d7f6ec6b95f3e916179cb6cfd01390-55ccfce77f972614-01", False),
    ("00-94d7f6ec6b95f3e916179cb6cfd013901-55ccfce77972614-01", False),
]

MULTI = {"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "1"}
READ = (TRACE, SPAN, True)
# What arrives; what each reader makes of it without the filter, in their order; and what both make of what leaves.
ARRIVALS = [
    ("traceparent", {"traceparent": f"00-{TRACE}-{SPAN}-01"}, [READ, READ], READ),
    ("not sampled", {"traceparent": f"00-{TRACE}-{SPAN}-00"}, [(TRACE, SPAN, False)] * 2, (TRACE, SPAN, False)),
    ("x-b3-*", MULTI, [READ, READ], READ),
    # Neither reads the single header alone.
    ("b3", {"b3": f"{TRACE}-{SPAN}-1"}, [None, None], READ),
    # The first knows no debug flag, and takes what nobody decided for "no".
    ("debug", {**MULTI, "x-b3-sampled": "", "x-b3-flags": "1"}, [(TRACE, SPAN, False), READ], READ),
    # The first knows no later version of W3C.
    ("a later version", {"traceparent": f"01-{TRACE}-{SPAN}-01-what"}, [None, READ], READ),
    # The second looks at W3C alone where any header of it is there.
    ("a stray tracestate", {**MULTI, "tracestate": "a=1"}, [READ, None], READ),
    ("a malformed traceparent", {**MULTI, "traceparent": "hello"}, [READ, None], READ),
    # The second reads `b3` first where both forms are.
    ("two forms of B3", {**MULTI, "b3": f"{OTHER}-{SPAN}-1"}, [READ, (OTHER, SPAN, True)], (OTHER, SPAN, True)),
    ("64 bits", {**MULTI, "x-b3-traceid": TRACE[16:]}, [(TRACE[16:].rjust(32, "0"), SPAN, True)] * 2, None),
]


def leaves(port, headers):
    """The trace headers that the example's application was sent: it answers with them, a line each."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/", headers=headers)
    answer = connection.getresponse().read().decode()
    return dict(line.split(": ", 1) for line in answer.splitlines() if ": " in line)


def main():
    for text, is_read in ITS_TESTS:
        check((w3c_of_its_own({"traceparent": text}) is not None) == is_read, f"Linkerd reads {text} otherwise")
    for envoy in sys.argv[1:]:
        ports = {}
        with tempfile.TemporaryDirectory() as folder, Processes(pathlib.Path(folder)) as processes:
            text = json.dumps(with_ports(EXAMPLE, ports))
            processes.envoy("envoy", envoy, text, ports[9901])
            for name, headers, alone, joined in ARRIVALS:
                sent = leaves(ports[10000], headers)
                for (reader, read), before in zip(READERS.items(), alone):
                    found = read(headers)
                    check(found == before, f"{name}: without the filter {reader} read {found}, not {before}")
                    expected = joined or before
                    check(read(sent) == expected, f"{name}: {reader} read {read(sent)} of {sent}, not {expected}")
    print(f"==> Linkerd: {len(ARRIVALS)} forms, read by the rules of both generations", file=sys.stderr)


main()
