//! Upstream: what the proxy's tracer wrote, and what a client sent.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

mod common;

use common::{Row, S, S2, T, check, parse, run};
use meshtrace_propagation::Counter;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn beside_a_tracer_its_format_alone_is_input() {
    let config = r#"{"placement": "upstream", "tracer": "tracecontext", "inject": ["b3multi"]}"#;
    check(&[
        Row {
            promise: "stale client headers and those of an earlier attempt are rewritten",
            config,
            sent: "traceparent: 00-$T-$S-01
                   tracestate:
                   b3: $T2-$S2-0
                   x-b3-traceid: $T
                   x-b3-spanid: $S2
                   x-b3-parentspanid: $P
                   x-b3-sampled: 0",
            left: "traceparent: 00-$T-$S-01
                   tracestate:
                   b3: $T-$S-1
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedTracecontext],
        },
        Row {
            promise: "a tracer that wrote nothing leaves what the client sent",
            config,
            sent: "b3: $T2-$S2-0",
            left: "b3: $T2-$S2-0",
            counted: &[Counter::Missing],
        },
        Row {
            promise: "of several values of one trace, one",
            config: r#"{"placement": "upstream", "tracer": "jaeger"}"#,
            sent: "traceparent: 00-$T-$S-01
                   traceparent: 00-$T-$S2-01
                   b3: $T2-$S2-0,$T2-$S2-0
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1, 1",
            left: "traceparent: 00-$T-$S-01
                   b3: $T2-$S2-0
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            counted: &[Counter::Missing],
        },
        Row {
            promise: "but for what is malformed",
            config,
            sent: "traceparent: junk
                   tracestate: a=1
                   b3: $T2-$S2-0
                   x-b3-traceid: junk",
            left: "b3: $T2-$S2-0",
            counted: &[
                Counter::Missing,
                Counter::MalformedTraceparent,
                Counter::MalformedTracestate,
            ],
        },
    ]);
}

// Until 1.39 Envoy's Zipkin tracer writes x-b3-*; from 1.40 on it writes the shape that came in.
#[test]
fn beside_the_zipkin_tracer_the_shape_that_it_wrote_is_input() {
    for tracer in ["b3", "b3multi"] {
        let config = format!(
            r#"{{"placement": "upstream", "tracer": "{tracer}",
                "inject": ["tracecontext", "b3", "b3multi"]}}"#
        );
        let traceparent = format!("traceparent: 00-{T}-{S2}-01");
        for (promise, sent) in [
            (
                "x-b3-* alone",
                "x-b3-traceid: $T
                 x-b3-spanid: $S2
                 x-b3-sampled: 1",
            ),
            ("b3 alone", "b3: $T-$S2-1-$P"),
            (
                "x-b3-* that continue a client's b3",
                "b3: $T-$S-1
                 x-b3-traceid: $T
                 x-b3-spanid: $S2
                 x-b3-parentspanid: $S
                 x-b3-sampled: 1",
            ),
            (
                "the same, two spans further",
                "b3: $T-$S-1
                 x-b3-traceid: $T
                 x-b3-spanid: $S2
                 x-b3-parentspanid: $P
                 x-b3-sampled: 1",
            ),
            (
                "a new trace beside a client's bare decision",
                "b3: 0
                 x-b3-traceid: $T
                 x-b3-spanid: $S2
                 x-b3-sampled: 1",
            ),
            (
                "b3 that continues a client's, who sent x-b3-* as well",
                "b3: $T-$S2-1-$S
                 x-b3-traceid: $T
                 x-b3-spanid: $S
                 x-b3-sampled: 1",
            ),
            (
                "b3 beside x-b3-* of another trace",
                "b3: $T-$S2-1
                 x-b3-traceid: $T2
                 x-b3-spanid: $S
                 x-b3-parentspanid: $P
                 x-b3-sampled: 0",
            ),
            (
                "b3 beside our own x-b3-* of an earlier attempt",
                "b3: $T-$S2-1-$P
                 x-b3-traceid: $T
                 x-b3-spanid: $S
                 x-b3-parentspanid: $P
                 x-b3-sampled: 1",
            ),
        ] {
            let left = run(&config, &parse(sent)).text();
            assert!(left.contains(&traceparent), "{tracer}: {promise}: {left:?}");
            let multi = format!("x-b3-spanid: {S2}");
            assert!(left.contains(&multi), "{tracer}: {promise}: {left:?}");
            let single = format!("b3: {T}-{S2}-1");
            assert!(
                left.iter().any(|line| line.starts_with(&single)),
                "{tracer}: {promise}: {left:?}"
            );
        }
    }
}

#[test]
fn beside_the_zipkin_tracer_what_the_headers_cannot_tell_the_named_shape_does() {
    let sent = "b3: $T-$S-1-$P
                x-b3-traceid: $T
                x-b3-spanid: $S2
                x-b3-parentspanid: e2e2e2e2e2e2e2e2
                x-b3-sampled: 1";
    for (tracer, span) in [("b3", S), ("b3multi", S2)] {
        let config = format!(
            r#"{{"placement": "upstream", "tracer": "{tracer}", "inject": ["tracecontext"]}}"#
        );
        let left = run(&config, &parse(sent));
        let expected = format!("00-{T}-{span}-01");
        assert_eq!(left.header("traceparent"), Some(expected));
    }
}

#[test]
fn upstream_the_rest_of_what_a_client_sent_goes() {
    let config = r#"{"placement": "upstream", "tracer": "b3multi", "inject": ["tracecontext"]}"#;
    check(&[
        Row {
            promise: "a debug flag beside the tracer's decision against it",
            config,
            sent: "x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 0
                   x-b3-flags: 1",
            left: "traceparent: 00-$T-$S-00
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 0",
            counted: &[Counter::ExtractedB3Multi],
        },
        Row {
            promise: "another trace's tracestate",
            config,
            sent: "x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1
                   traceparent: 00-$T2-$S2-01
                   tracestate: a=1",
            left: "traceparent: 00-$T-$S-01
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedB3Multi],
        },
        Row {
            promise: "b3 beside the tracer's x-b3-* leaves with its ids and without a parent",
            config,
            sent: "b3: $T-$S2-1
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-parentspanid: $S2
                   x-b3-sampled: 1",
            left: "traceparent: 00-$T-$S-01
                   b3: $T-$S-1
                   x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-parentspanid: $S2
                   x-b3-sampled: 1",
            counted: &[Counter::ExtractedB3Multi],
        },
        Row {
            promise: "malformed B3, at which the tracer writes nothing; the rest is not stale",
            config,
            sent: "b3: junk
                   traceparent: 00-$T-$S-01",
            left: "traceparent: 00-$T-$S-01",
            counted: &[Counter::Missing, Counter::MalformedB3],
        },
        Row {
            promise: "no tracer: a decision without ids passes",
            config,
            sent: "b3: 0
                   traceparent: 00-$T-$S-01",
            left: "b3: 0
                   traceparent: 00-$T-$S-01",
            counted: &[Counter::Missing],
        },
    ]);
}
