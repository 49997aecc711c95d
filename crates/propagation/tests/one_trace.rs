//! What names one trace more than once: repeated headers, joined values, and decisions that formats
//! leave to each other.
#![allow(clippy::expect_used, reason = "a test may fail")]

mod common;

use common::{Row, check, parse, run};
use meshtrace_propagation::Counter::{
    ConflictSpanId, ConflictTraceId, Deferred, ExtractedB3, ExtractedB3Multi, ExtractedDatadog,
    ExtractedGcp, ExtractedJaeger, ExtractedOttrace, ExtractedTracecontext, ExtractedXray,
    Generated, Incomplete, MalformedB3, MalformedJaeger, MalformedTraceparent, MalformedTracestate,
    Missing,
};
use meshtrace_propagation::{Outgoing, SamplingState};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const W3C: &str = r#"{"extract": ["tracecontext"], "inject": ["tracecontext"]}"#;
const REJECT: &str =
    r#"{"extract": ["tracecontext"], "inject": ["tracecontext"], "on_repeated": "reject"}"#;

#[test]
fn several_lines_of_one_trace_are_continued_by_the_first() {
    check(&[
        Row {
            promise: "one line is left, and tracestate goes on",
            config: W3C,
            sent: "traceparent: 00-$T-$S-01
                   tracestate: a=1
                   traceparent: 00-$T-$S-01",
            left: "traceparent: 00-$T-$S-01
                   tracestate: a=1",
            counted: &[ExtractedTracecontext],
        },
        Row {
            promise: "another span and another flag of it are no other trace",
            config: W3C,
            sent: "traceparent: 00-$T-$S-00
                   traceparent: 00-$T-$S2-01",
            left: "traceparent: 00-$T-$S-00",
            counted: &[ExtractedTracecontext],
        },
        Row {
            promise: "joined by a comma, with white space",
            config: W3C,
            sent: "traceparent: 00-$T-$S-01 , 00-$T-$S2-01
                   tracestate: a=1",
            left: "traceparent: 00-$T-$S-01
                   tracestate: a=1",
            counted: &[ExtractedTracecontext],
        },
        Row {
            promise: "lines and joined values together",
            config: W3C,
            sent: "traceparent: 00-$T-$S-01,00-$T-$S-01
                   traceparent: 00-$T-$S-01",
            left: "traceparent: 00-$T-$S-01",
            counted: &[ExtractedTracecontext],
        },
        Row {
            promise: "two traces are none",
            config: W3C,
            sent: "traceparent: 00-$T-$S-01
                   traceparent: 00-$T2-$S-01
                   tracestate: a=1",
            left: "",
            counted: &[Missing, MalformedTraceparent, MalformedTracestate],
        },
        Row {
            promise: "nor joined ones",
            config: W3C,
            sent: "traceparent: 00-$T-$S-01,00-$T2-$S-01",
            left: "",
            counted: &[Missing, MalformedTraceparent],
        },
        Row {
            promise: "nor is a valid one beside a malformed one",
            config: W3C,
            sent: "traceparent: 00-$T-$S-01
                   traceparent: junk",
            left: "",
            counted: &[Missing, MalformedTraceparent],
        },
        Row {
            promise: "an empty one names no other trace",
            config: W3C,
            sent: "traceparent: ,00-$T-$S-01,
                   traceparent:",
            left: "traceparent: 00-$T-$S-01",
            counted: &[ExtractedTracecontext],
        },
        Row {
            promise: "nor any",
            config: W3C,
            sent: "traceparent: ,
                   traceparent:",
            left: "",
            counted: &[Missing, MalformedTraceparent],
        },
        Row {
            promise: "to the letter of section 3.2 there is exactly one",
            config: REJECT,
            sent: "traceparent: 00-$T-$S-01
                   traceparent: 00-$T-$S-01",
            left: "",
            counted: &[Missing, MalformedTraceparent],
        },
        Row {
            promise: "in one line too",
            config: REJECT,
            sent: "traceparent: 00-$T-$S-01,00-$T-$S-01",
            left: "",
            counted: &[Missing, MalformedTraceparent],
        },
        Row {
            promise: "a comma is not in a later version's tail",
            config: W3C,
            sent: "traceparent: cc-$T-$S-01-a,b",
            left: "",
            counted: &[Missing, MalformedTraceparent],
        },
    ]);
}

#[test]
fn joined_values_of_every_format_are_continued_by_the_first() {
    check(&[
        Row {
            promise: "b3",
            config: r#"{"extract": ["b3"], "inject": ["b3"]}"#,
            sent: "b3: $T-$S-1,$T-$S2-0",
            left: "b3: $T-$S-1",
            counted: &[ExtractedB3],
        },
        Row {
            promise: "b3 of two traces",
            config: r#"{"extract": ["b3"], "inject": ["b3"]}"#,
            sent: "b3: $T-$S-1,$T2-$S-1",
            left: "",
            counted: &[Missing, MalformedB3],
        },
        Row {
            promise: "of separate lines the first counts, as B3 has it",
            config: r#"{"extract": ["b3"], "inject": ["b3"]}"#,
            sent: "b3: $T-$S-1
                   b3: $T2-$S2-1",
            left: "b3: $T-$S-1",
            counted: &[ExtractedB3],
        },
        Row {
            promise: "x-b3-*",
            config: r#"{"extract": ["b3multi"], "inject": ["b3multi"]}"#,
            sent: "x-b3-traceid: $T, $T
                   x-b3-spanid: $S, $S2
                   x-b3-sampled: 1, 1",
            left: "x-b3-traceid: $T
                   x-b3-spanid: $S
                   x-b3-sampled: 1",
            counted: &[ExtractedB3Multi],
        },
        Row {
            promise: "jaeger",
            config: r#"{"extract": ["jaeger"], "inject": ["jaeger"]}"#,
            sent: "uber-trace-id: $T:$S:0:1,$T:$S2:0:1",
            left: "uber-trace-id: $T:$S:0:1",
            counted: &[ExtractedJaeger],
        },
        Row {
            promise: "jaeger to the letter",
            config: r#"{"extract": ["jaeger"], "on_repeated": "reject"}"#,
            sent: "uber-trace-id: $T:$S:0:1,$T:$S:0:1",
            left: "",
            counted: &[Missing, MalformedJaeger],
        },
        Row {
            promise: "ottrace",
            config: r#"{"extract": ["ottrace"], "inject": ["ottrace"]}"#,
            sent: "ot-tracer-traceid: $T,$T
                   ot-tracer-spanid: $S,$S
                   ot-tracer-sampled: true,true",
            left: "ot-tracer-traceid: $T
                   ot-tracer-spanid: $S
                   ot-tracer-sampled: true",
            counted: &[ExtractedOttrace],
        },
        Row {
            promise: "xray",
            config: r#"{"extract": ["xray"], "inject": ["xray"]}"#,
            sent: "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$S;Sampled=1,Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$S2",
            left: "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$S;Sampled=1",
            counted: &[ExtractedXray],
        },
        Row {
            promise: "gcp",
            config: r#"{"extract": ["gcp"], "inject": ["gcp"]}"#,
            sent: "x-cloud-trace-context: $T/67667974448284343;o=1, $T/1;o=1",
            left: "x-cloud-trace-context: $T/67667974448284343;o=1",
            counted: &[ExtractedGcp],
        },
        Row {
            promise: "datadog",
            config: r#"{"extract": ["datadog"], "inject": ["datadog"]}"#,
            sent: "x-datadog-trace-id: 5,5
                   x-datadog-parent-id: 6,7
                   x-datadog-sampling-priority: 2,2",
            left: "x-datadog-trace-id: 5
                   x-datadog-parent-id: 6
                   x-datadog-sampling-priority: 2",
            counted: &[ExtractedDatadog],
        },
    ]);
}

/// One span of each format that can leave the decision open, in the trace $T.
const OPEN: &[(&str, &str)] = &[
    ("b3", "b3: $T-$S2"),
    ("b3multi", "x-b3-traceid: $T\nx-b3-spanid: $S2"),
    (
        "xray",
        "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$S2",
    ),
    ("gcp", "x-cloud-trace-context: $T/16453819474850114513"),
    (
        "datadog",
        "x-datadog-trace-id: 11803532876627986230\nx-datadog-parent-id: 16453819474850114513\nx-datadog-tags: _dd.p.tid=4bf92f3577b34da6",
    ),
    ("ottrace", "ot-tracer-traceid: $T\not-tracer-spanid: $S2"),
];

/// One span of each format with a decision, `1` or `0` where there is a `?`, `true` or `false` for
/// `!`.
const DECIDED: &[(&str, &str)] = &[
    ("tracecontext", "traceparent: 00-$T-$S-0?"),
    ("b3", "b3: $T-$S-?"),
    (
        "b3multi",
        "x-b3-traceid: $T\nx-b3-spanid: $S\nx-b3-sampled: ?",
    ),
    ("jaeger", "uber-trace-id: $T:$S:0:?"),
    (
        "xray",
        "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$S;Sampled=?",
    ),
    // A trace without a span.
    (
        "xray",
        "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Sampled=?",
    ),
    ("gcp", "x-cloud-trace-context: $T/67667974448284343;o=?"),
    ("gcp", "x-cloud-trace-context: $T/0;o=?"),
    (
        "datadog",
        "x-datadog-trace-id: 11803532876627986230\nx-datadog-parent-id: 1\nx-datadog-sampling-priority: ?\nx-datadog-tags: _dd.p.tid=4bf92f3577b34da6",
    ),
    (
        "ottrace",
        "ot-tracer-traceid: $T\not-tracer-spanid: $S\not-tracer-sampled: !",
    ),
    // A decision without ids.
    ("b3", "b3: ?"),
    ("b3multi", "x-b3-sampled: ?"),
];

#[test]
fn a_decision_wins_over_an_open_one_of_the_same_trace_whichever_is_listed_first() {
    let mut pairs = 0;
    for (open, open_sent) in OPEN {
        for (decided, decided_sent) in DECIDED.iter().filter(|(decided, _)| decided != open) {
            // "The single header takes precedence"; what it says, x-b3-* does not complete.
            if ["b3", "b3multi"].contains(open) && ["b3", "b3multi"].contains(decided) {
                continue;
            }
            for (digit, word, expected) in [("1", "true", true), ("0", "false", false)] {
                let sent = decided_sent.replace('?', digit).replace('!', word);
                let sent = parse(&format!("{open_sent}\n{sent}"));
                for extract in [[open, decided], [decided, open]] {
                    let config = format!(r#"{{"extract": {extract:?}, "inject": ["b3"]}}"#);
                    let left = run(&config, &sent);
                    let context = left.context.expect("a context");
                    let decision = context.sampling.decision();
                    assert_eq!(decision, Some(expected), "{extract:?} {sent:?}");
                    pairs += 1;
                }
            }
        }
    }
    assert!(pairs > 200, "{pairs}");
}

#[test]
fn debug_wins_over_all_and_the_listed_order_over_the_rest() {
    let sampling = |extract: &str, sent: &str| {
        let config = format!(r#"{{"extract": {extract}}}"#);
        let context = run(&config, &parse(sent)).context;
        context.expect("a context").sampling
    };
    let debug = "traceparent: 00-$T-$S-00
                 b3: $T-$S2-d";
    for extract in [r#"["tracecontext", "b3"]"#, r#"["b3", "tracecontext"]"#] {
        assert_eq!(sampling(extract, debug), SamplingState::Debug, "{extract}");
    }
    let contrary = "traceparent: 00-$T-$S-00
                    uber-trace-id: $T:$S2:0:1";
    let w3c = sampling(r#"["tracecontext", "jaeger"]"#, contrary);
    assert_eq!(w3c, SamplingState::NotSampled);
    let jaeger = sampling(r#"["jaeger", "tracecontext"]"#, contrary);
    assert_eq!(jaeger, SamplingState::Sampled);
}

#[test]
fn a_decision_about_another_trace_is_none_about_this_one() {
    check(&[Row {
        promise: "the open decision stays open",
        config: r#"{"extract": ["b3multi", "jaeger"], "inject": ["b3multi"]}"#,
        sent: "x-b3-traceid: $T
               x-b3-spanid: $S
               uber-trace-id: $T2:$S2:0:1",
        left: "x-b3-traceid: $T
               x-b3-spanid: $S
               uber-trace-id: $T:$S:0:0",
        counted: &[ExtractedB3Multi, Deferred, ConflictTraceId],
    }]);
}

// "The single header takes precedence": x-b3-* without ids are about the trace of another caller.
#[test]
fn what_b3_leaves_open_x_b3_without_ids_does_not_decide() {
    check(&[Row {
        promise: "b3 stays open",
        config: r#"{"extract": ["b3", "b3multi"], "inject": ["b3"]}"#,
        sent: "b3: $T-$S
               x-b3-sampled: 1",
        left: "b3: $T-$S
               x-b3-traceid: $T
               x-b3-spanid: $S",
        counted: &[ExtractedB3, Deferred],
    }]);
}

#[test]
fn what_every_format_is_told_is_the_decision_that_was_made() {
    check(&[Row {
        promise: "the span listed first, with the decision of the other",
        config: r#"{"extract": ["b3multi", "tracecontext"]}"#,
        sent: "x-b3-traceid: $T
               x-b3-spanid: $S2
               traceparent: 00-$T-$S-01
               tracestate: ot=th:8",
        left: "x-b3-traceid: $T
               x-b3-spanid: $S2
               x-b3-sampled: 1
               traceparent: 00-$T-$S2-01
               tracestate: ot=th:8",
        counted: &[ExtractedB3Multi, ConflictSpanId],
    }]);
}

#[test]
fn other_fields_of_xray_stay_with_their_root() {
    let both = r#"{"extract": ["tracecontext", "xray"], "inject": ["xray"]}"#;
    let long = "Lineage=a87bd80c:1|68fd508a:5|c512fbe3:2";
    let sent = |fields: &str| {
        parse(&format!(
            "traceparent: 00-$T-$S-01
             x-amzn-trace-id: {fields}"
        ))
    };
    let root = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736";
    let known = format!("{root};Parent=00f067aa0ba902b7;Sampled=1");
    for (fields, expected) in [
        (format!("{root};{long}"), format!("{known};{long}")),
        (
            format!("Self=1-67891234-12456789abcdef012345678;{root};Parent=$S2;Sampled=0;{long}"),
            format!("{known};Self=1-67891234-12456789abcdef012345678;{long}"),
        ),
        (
            format!("{root};Parent=$S2;CalledFrom=app; B = 2 ;A=1"),
            format!("{known};CalledFrom=app;B=2;A=1"),
        ),
        (
            format!("{root};Parent=$S2;junk;=1;Lineage=;a b=1;X=\u{1}"),
            known.clone(),
        ),
        // Whole fields, as far as there is room.
        (
            format!(
                "{root};Parent=$S2;A={};{long};B={}",
                "a".repeat(400),
                "b".repeat(20)
            ),
            format!("{known};A={};B={}", "a".repeat(400), "b".repeat(20)),
        ),
        (
            format!("Root=1-80f198ee-56343ba864fe8b2a57d3eff7;Parent=$S2;{long};Self=1"),
            known.clone(),
        ),
    ] {
        let left = run(both, &sent(&fields));
        let header = left.header("x-amzn-trace-id");
        assert_eq!(header.as_deref(), Some(expected.as_str()), "{fields}");
        assert!(expected.len() <= 512);
    }
}

#[test]
fn an_unknown_word_for_a_decision_costs_no_trace() {
    check(&[
        Row {
            promise: "xray: it leaves the decision open, and does not leave",
            config: r#"{"extract": ["xray"], "inject": ["xray", "b3"]}"#,
            sent: "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$S;Sampled=other",
            left: "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$S
                   b3: $T-$S",
            counted: &[ExtractedXray, Deferred],
        },
        Row {
            promise: "xray: nor does an empty one",
            config: r#"{"extract": ["xray"], "inject": ["xray"]}"#,
            sent: "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$S;Sampled=",
            left: "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=$S",
            counted: &[ExtractedXray, Deferred],
        },
        Row {
            promise: "ottrace",
            config: r#"{"extract": ["ottrace"], "inject": ["ottrace"]}"#,
            sent: "ot-tracer-traceid: $T
                   ot-tracer-spanid: $S
                   ot-tracer-sampled: perhaps",
            left: "ot-tracer-traceid: $T
                   ot-tracer-spanid: $S",
            counted: &[ExtractedOttrace, Deferred],
        },
        Row {
            promise: "datadog",
            config: r#"{"extract": ["datadog"], "inject": ["datadog"]}"#,
            sent: "x-datadog-trace-id: 5
                   x-datadog-parent-id: 6
                   x-datadog-sampling-priority: 7",
            left: "x-datadog-trace-id: 5
                   x-datadog-parent-id: 6",
            counted: &[ExtractedDatadog, Deferred],
        },
    ]);
}

#[test]
fn a_parent_of_zeros_is_none() {
    for strict in [false, true] {
        for (sent, header, expected) in [
            ("b3: $T-$S-1-0000000000000000", "b3", "$T-$S-1"),
            (
                "x-b3-traceid: $T
                 x-b3-spanid: $S
                 x-b3-parentspanid: 0000000000000000
                 x-b3-sampled: 1",
                "x-b3-spanid",
                "$S",
            ),
        ] {
            let config = format!(
                r#"{{"b3_strict": {strict}, "extract": ["b3", "b3multi"], "inject": ["b3", "b3multi"]}}"#
            );
            let left = run(&config, &parse(sent));
            assert_eq!(left.context.expect("a context").b3_parent, None, "{sent}");
            let expected = common::ids(expected);
            assert_eq!(left.header(header), Some(expected), "{sent}");
            assert_eq!(left.header("x-b3-parentspanid"), None, "{sent}");
        }
    }
    check(&[
        Row {
            promise: "without a state, where lenient reading takes a parent",
            config: r#"{"extract": ["b3"], "inject": ["b3"]}"#,
            sent: "b3: $T-$S-0000000000000000",
            left: "b3: $T-$S",
            counted: &[ExtractedB3, Deferred],
        },
        Row {
            promise: "too few zeros are no parent",
            config: r#"{"extract": ["b3"], "inject": ["b3"]}"#,
            sent: "b3: $T-$S-1-0",
            left: "",
            counted: &[Missing, MalformedB3],
        },
    ]);
}

/// A trace without a span whose decision another format makes.
#[test]
fn a_trace_without_a_span_takes_the_decision_of_its_trace() {
    let config =
        r#"{"extract": ["xray", "gcp"], "inject": ["tracecontext"], "on_missing": "generate"}"#;
    for (flag, sampled) in [("1", true), ("0", false)] {
        let sent = parse(&format!(
            "x-amzn-trace-id: Root=1-4bf92f35-77b34da6a3ce929d0e0e4736
             x-cloud-trace-context: $T/0;o={flag}"
        ));
        let left = run(config, &sent);
        let Outgoing::Context(context) = left.decision.outgoing else {
            panic!("{left:?}");
        };
        assert_eq!(context.sampling.decision(), Some(sampled));
        let counted: Vec<_> = left.tally.iter().collect();
        assert_eq!(counted, [Missing, Incomplete, Generated]);
    }
}
