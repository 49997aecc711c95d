//! What is told of a request whose trace header came more than once: as whoever makes the span
//! reads it.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeMap;

use meshtrace_access_log::{AccessLogIds, AccessLogTraceConfig, Ids, Tally};
use meshtrace_headers::{Headers, encode};
use meshtrace_propagation::OnRepeated;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const T: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const S: &str = "00f067aa0ba902b7";
const NONE: &str = r#"{"tracer": "none", "extract": ["tracecontext", "b3", "b3multi", "xray"]}"#;
const UNKNOWN: &str = "{}";
const OTEL: &str = r#"{"tracer": "tracecontext", "spawn_upstream_span": false}"#;
const ZIPKIN: &str =
    r#"{"tracer": "b3", "spawn_upstream_span": false, "shared_span_context": false}"#;

const TWO_LINES: &[&str] = &[
    "traceparent: 00-$T-$S-01",
    "traceparent: 00-$T-a8e0bed6092f2234-00",
];
const JOINED: &[&str] = &["traceparent: 00-$T-$S-01,00-$T-a8e0bed6092f2234-00"];
const TWO_TRACES: &[&str] = &[
    "traceparent: 00-$T-$S-01",
    "traceparent: 00-80f198ee56343ba864fe8b2a57d3eff7-a8e0bed6092f2234-01",
];
const JOINED_TRACES: &[&str] =
    &["traceparent: 00-$T-$S-01,00-80f198ee56343ba864fe8b2a57d3eff7-a8e0bed6092f2234-01"];
const JOINED_B3: &[&str] = &["b3: $T-$S-1,$T-$S-1"];
const JOINED_MULTI: &[&str] = &[
    "x-b3-traceid: $T,$T",
    "x-b3-spanid: $S,$S",
    "x-b3-sampled: 1",
];
/// What one filter of the chain makes of it.
const ONE_LINE: &[&str] = &["traceparent: 00-$T-$S-01"];
/// What the proxy's tracer writes.
const OWN: &[&str] = &["traceparent: 00-$T-e457b5a2e4d86bd1-01"];

fn fill(text: &str) -> String {
    text.replace("$T", T).replace("$S", S)
}

fn block(lines: &[&str]) -> Vec<u8> {
    let lines: Vec<_> = lines
        .iter()
        .map(|line| fill(line))
        .map(|line| {
            let (name, value) = line.split_once(": ").expect("a header line");
            (name.to_owned(), value.to_owned())
        })
        .collect();
    encode(&lines)
}

fn compiled(config: &str) -> AccessLogIds {
    let config: AccessLogTraceConfig = meshtrace_config::read(config.as_bytes()).unwrap();
    AccessLogIds::new(&config).unwrap()
}

/// `trace span parent flags format`, with `-` for what is absent.
#[track_caller]
fn check(ids: &AccessLogIds, came: &[&str], end: &[&str], expected: &str) {
    let mut tally = Tally::default();
    let (came_block, end_block) = (block(came), block(end));
    let arrival = ids.arrive(Headers::parse(&came_block).unwrap(), &mut tally);
    let end_headers = Headers::parse(&end_block).unwrap();
    let at_end = ids.at_end(Some(&arrival), end_headers, &mut tally);
    let mut log = BTreeMap::new();
    for (now, before) in [
        (arrival.recorded(), &Ids::default()),
        (&at_end, arrival.recorded()),
    ] {
        ids.write(now, before, |key, value| {
            let value = value.expect("one that fits").to_vec();
            log.insert(key.to_vec(), String::from_utf8(value).unwrap());
        });
    }
    let told: Vec<_> = AccessLogIds::KEYS
        .iter()
        .map(|key| log.get(key.as_bytes()).map_or("-", String::as_str))
        .collect();
    assert_eq!(told.join(" "), fill(expected), "{came:?} -> {end:?}");
}

#[test]
fn without_a_tracer_it_is_the_trace_that_trace_context_continues() {
    let ids = compiled(NONE);
    let continued = "$T - $S 01 tracecontext";
    for came in [TWO_LINES, JOINED] {
        check(&ids, came, came, continued);
        check(&ids, came, ONE_LINE, continued);
    }
    check(&ids, JOINED_B3, JOINED_B3, "$T - $S 01 b3");
    check(&ids, JOINED_MULTI, JOINED_MULTI, "$T - $S 01 b3multi");
    let xray = "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$S;Sampled=1,Root=1-4bf92f35-77b34da6a3ce929d0e0e4736";
    check(&ids, &[xray], &[xray], "$T - $S 01 xray");
    for came in [TWO_TRACES, JOINED_TRACES] {
        check(&ids, came, came, "- - - - -");
    }
}

/// Envoy's OpenTelemetry tracer takes the first line as one value.
#[test]
fn a_tracer_of_envoys_takes_the_first_line_and_no_joined_one() {
    let otel = compiled(OTEL);
    check(
        &otel,
        TWO_LINES,
        OWN,
        "$T e457b5a2e4d86bd1 $S 01 tracecontext",
    );
    // A local answer: the tracer has written nothing.
    check(&otel, TWO_LINES, TWO_LINES, "$T - $S - tracecontext");
    // It starts no span, and what another filter makes of the line is not its own.
    for end in [JOINED, ONE_LINE] {
        check(&otel, JOINED, end, "- - - - -");
    }
    let zipkin = compiled(ZIPKIN);
    for came in [JOINED_B3, JOINED_MULTI] {
        check(&zipkin, came, came, "- - - - -");
    }
    for came in [TWO_TRACES, JOINED_TRACES] {
        check(&otel, came, came, "- - - - -");
    }
    let unknown = compiled(UNKNOWN);
    check(&unknown, TWO_LINES, TWO_LINES, "$T - - 01 tracecontext");
    check(&unknown, JOINED, JOINED, "- - - - -");
}

#[test]
fn beside_trace_context_it_is_what_that_stage_reads() {
    let same = OnRepeated::SameTrace;
    for config in [NONE, UNKNOWN] {
        let none = config == NONE;
        let continued = if none {
            "$T - $S 01 tracecontext"
        } else {
            "$T - - 01 tracecontext"
        };
        for came in [TWO_LINES, JOINED] {
            let ids = compiled(config).beside(same);
            check(&ids, came, ONE_LINE, continued);
            let ids = compiled(config).beside(OnRepeated::Reject);
            check(&ids, came, &[], "- - - - -");
        }
    }
    // Envoy's tracer reads before any filter.
    check(&compiled(OTEL).beside(same), JOINED, ONE_LINE, "- - - - -");
    let otel = compiled(OTEL).beside(OnRepeated::Reject);
    check(
        &otel,
        TWO_LINES,
        OWN,
        "$T e457b5a2e4d86bd1 $S 01 tracecontext",
    );
}
