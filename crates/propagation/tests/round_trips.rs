//! What is written is read back, and no bytes whatsoever upset the filter.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Lines, run};
use meshtrace_propagation::{Field, SamplingState};
use proptest::collection::vec;
use proptest::prelude::*;

fn hex(bytes: usize) -> impl Strategy<Value = String> {
    vec(any::<u8>(), bytes)
        .prop_filter("an id of zeros does not exist", |id| {
            id.iter().any(|byte| *byte != 0)
        })
        .prop_map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect())
}

const FORMATS: &[&str] = &[
    "tracecontext",
    "b3",
    "b3multi",
    "jaeger",
    "xray",
    "gcp",
    "datadog",
    "ottrace",
    "grpc-trace-bin",
];

/// The formats that can tell debug.
const WITH_DEBUG: &[&str] = &["b3", "b3multi", "jaeger"];

/// One context, told in each of the formats.
#[derive(Clone, Debug)]
struct Told {
    trace_id: String,
    span_id: String,
    state: &'static str,
}

impl Told {
    fn in_format(&self, format: &str) -> Lines {
        let Self {
            trace_id,
            span_id,
            state,
        } = self;
        let flag = if *state == "0" { "00" } else { "01" };
        let sampled = if *state == "0" { "0" } else { "1" };
        let told: Vec<(&str, String)> = match format {
            "tracecontext" => vec![("traceparent", format!("00-{trace_id}-{span_id}-{flag}"))],
            "b3" => vec![("b3", format!("{trace_id}-{span_id}-{state}"))],
            "datadog" => {
                let (high, low) = trace_id.split_at_checked(16).unwrap();
                let decimal = |hex| u64::from_str_radix(hex, 16).unwrap().to_string();
                vec![
                    ("x-datadog-trace-id", decimal(low)),
                    ("x-datadog-parent-id", decimal(span_id)),
                    ("x-datadog-sampling-priority", sampled.to_owned()),
                    ("x-datadog-tags", format!("_dd.p.tid={high}")),
                ]
            }
            "ottrace" => vec![
                ("ot-tracer-traceid", trace_id.clone()),
                ("ot-tracer-spanid", span_id.clone()),
                ("ot-tracer-sampled", (sampled == "1").to_string()),
            ],
            "grpc-trace-bin" => {
                let trace_id = u128::from_str_radix(trace_id, 16).unwrap().to_be_bytes();
                let span_id = u64::from_str_radix(span_id, 16).unwrap().to_be_bytes();
                let options = u8::from(sampled == "1");
                let bytes = [&[0, 0][..], &trace_id, &[1], &span_id, &[2, options]].concat();
                vec![("grpc-trace-bin", STANDARD.encode(bytes))]
            }
            "xray" => {
                let (time, number) = trace_id.split_at_checked(8).unwrap();
                let value = format!("Root=1-{time}-{number};Parent={span_id};Sampled={sampled}");
                vec![("x-amzn-trace-id", value)]
            }
            "gcp" => {
                let span_id = u64::from_str_radix(span_id, 16).unwrap();
                let value = format!("{trace_id}/{span_id};o={sampled}");
                vec![("x-cloud-trace-context", value)]
            }
            "jaeger" => {
                let flags = if *state == "d" { "3" } else { sampled };
                vec![("uber-trace-id", format!("{trace_id}:{span_id}:0:{flags}"))]
            }
            _ => vec![
                ("x-b3-traceid", trace_id.clone()),
                ("x-b3-spanid", span_id.clone()),
                match *state {
                    "d" => ("x-b3-flags", "1".to_owned()),
                    state => ("x-b3-sampled", state.to_owned()),
                },
            ],
        };
        told.into_iter()
            .map(|(name, value)| (name.to_owned(), value.into_bytes()))
            .collect()
    }
}

fn told() -> impl Strategy<Value = Told> {
    (
        // Datadog has no form for an id of which a half is zero.
        (hex(8), hex(8)).prop_map(|(high, low)| high + &low),
        hex(8),
        prop_oneof!["0", "1", "d"].prop_map(|s| match s.as_str() {
            "0" => "0",
            "1" => "1",
            _ => "d",
        }),
    )
        .prop_map(|(trace_id, span_id, state)| Told {
            trace_id,
            span_id,
            state,
        })
}

fn format() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(FORMATS)
}

/// Bytes near the grammars, so that parsers are entered, and bytes far from them.
fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[0-9a-fA-Fd.-]{0,80}".prop_map(String::into_bytes),
        "(00|01|cc|ff)-[0-9a-f]{31,33}-[0-9a-f]{15,17}-[0-9a-f]{1,3}(-x)?"
            .prop_map(String::into_bytes),
        "[0-9a-f]{16}([0-9a-f]{16})?-[0-9a-f]{16}(-[01d])?(-[0-9a-f]{16})?"
            .prop_map(String::into_bytes),
        "([a-z]=[ -~]{0,9},?){0,40}".prop_map(String::into_bytes),
        "(Root=1-[0-9a-f]{8}-[0-9a-f]{24}|Parent=[0-9a-f]{16}|Sampled=[01?x]|Self=1| ?; ?){0,6}"
            .prop_map(String::into_bytes),
        "Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16}(;Sampled=[01?])?"
            .prop_map(String::into_bytes),
        "true|false".prop_map(String::into_bytes),
        "[0-9a-f]{16}([0-9a-f]{16})?".prop_map(String::into_bytes),
        (vec(any::<u8>(), 16), vec(any::<u8>(), 8), any::<u8>()).prop_map(
            |(trace, span, options)| {
                let bytes = [&[0, 0][..], &trace, &[1], &span, &[2, options]].concat();
                STANDARD.encode(bytes).into_bytes()
            }
        ),
        "-?[0-9]{1,20}".prop_map(String::into_bytes),
        "((_dd\\.p\\.tid=[0-9a-f]{16}|_dd\\.p\\.dm=-1|usr=[a-z]{1,40}|junk),?){0,5}"
            .prop_map(String::into_bytes),
        "[0-9a-f]{32}(/[0-9]{1,20})?(;o=[0-9]{0,2})?".prop_map(String::into_bytes),
        "[0-9a-f]{15,33}(:|%3A)[0-9a-f]{15,17}(:|%3a)0?(:|%3A)[0-9a-f]{0,3}"
            .prop_map(String::into_bytes),
        vec(any::<u8>(), 0..300),
    ]
}

/// Contexts that often name one trace, one half of it, or one span.
fn related_headers() -> impl Strategy<Value = Lines> {
    let trace_ids = vec![
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "0000000000000000a3ce929d0e0e4736",
        "4bf92f3577b34da60000000000000000",
        "80f198ee56343ba864fe8b2a57d3eff7",
    ];
    let spans = vec!["00f067aa0ba902b7", "e457b5a2e4d86bd1"];
    let told = (
        proptest::sample::select(trace_ids),
        proptest::sample::select(spans),
        proptest::sample::select(vec!["0", "1", "d"]),
    )
        .prop_map(|(trace_id, span_id, state)| Told {
            trace_id: trace_id.to_owned(),
            span_id: span_id.to_owned(),
            state,
        });
    // Where the decision has a header of its own, that may be missing.
    let deferring = [
        "x-b3-sampled",
        "x-datadog-sampling-priority",
        "ot-tracer-sampled",
    ];
    vec((format(), told, any::<bool>()), 1..5).prop_map(move |told| {
        let lines = told.into_iter().flat_map(|(format, told, defers)| {
            let mut lines = told.in_format(format);
            lines.retain(|(name, _)| !defers || !deferring.contains(&name.as_str()));
            lines
        });
        lines.collect()
    })
}

fn any_headers() -> impl Strategy<Value = Lines> {
    prop_oneof![unrelated_headers(), related_headers()]
}

fn unrelated_headers() -> impl Strategy<Value = Lines> {
    let name = proptest::sample::select(Field::ALL)
        .prop_map(|field| String::from_utf8(field.name().to_vec()).unwrap());
    vec((name, value()), 0..12)
}

const EVERY_FORMAT: &str = r#"{"extract": ["xray", "jaeger", "tracecontext", "b3", "datadog", "b3multi", "gcp",
        "grpc-trace-bin", "ottrace"]}"#;

fn any_config() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "{}",
        r#"{"b3_strict": true, "b3_trace_id_bits": 64}"#,
        r#"{"extract": ["b3multi", "b3", "tracecontext"], "inject": ["b3", "tracecontext"]}"#,
        r#"{"on_missing": "generate", "on_conflict": "restart", "random_flag": true}"#,
        r#"{"inject": "preserve", "on_defer": "sampled"}"#,
        r#"{"incoming": "restart"}"#,
        r#"{"placement": "upstream", "tracer": "b3multi"}"#,
        EVERY_FORMAT,
        r#"{"extract": ["datadog", "b3", "tracecontext", "grpc-trace-bin"], "on_defer": "sampled",
            "inject": ["tracecontext", "jaeger", "ottrace", "xray", "gcp", "datadog"]}"#,
        r#"{"placement": "upstream", "tracer": "datadog",
            "inject": ["tracecontext", "jaeger", "ottrace", "xray", "gcp", "grpc-trace-bin"]}"#,
    ])
}

proptest! {
    #[test]
    fn a_context_survives_any_way_through_the_formats(
        told in told(),
        way in vec(format(), 2..6),
    ) {
        // Once through a format without debug, it is an accept.
        let debug = told.state == "d" && way.iter().all(|format| WITH_DEBUG.contains(format));
        let mut lines = told.in_format(way[0]);
        for step in way.windows(2) {
            let (from, to) = (step[0], step[1]);
            let clear = if from == to { String::new() } else { format!(r#", "clear": ["{from}"]"#) };
            let config = format!(r#"{{"extract": ["{from}"], "inject": ["{to}"]{clear}}}"#);
            let left = run(&config, &lines);
            let context = left.context.unwrap();
            prop_assert_eq!(context.trace_id.to_hex(), told.trace_id.as_bytes());
            prop_assert_eq!(context.span_id.to_hex(), told.span_id.as_bytes());
            lines = left.lines;
        }
        let last = *way.last().unwrap();
        let left = run(&format!(r#"{{"extract": ["{last}"], "inject": []}}"#), &lines);
        let context = left.context.unwrap();
        prop_assert_eq!(context.sampling.decision(), Some(told.state != "0"));
        prop_assert_eq!(context.sampling == SamplingState::Debug, debug);
    }

    /// What leaves is clean: a second pass finds nothing to mend and nothing to count as wrong.
    #[test]
    fn whatever_arrives_a_second_pass_changes_nothing(
        sent in any_headers(),
        config in any_config(),
    ) {
        let once = run(config, &sent);
        // A trace that was restarted is restarted again.
        if once.decision.previous_trace_id.is_some() {
            return Ok(());
        }
        let twice = run(config, &once.lines);
        prop_assert_eq!(twice.edits, 0, "{:?} then {:?}", once.text(), twice.text());
        for counter in twice.tally.iter() {
            let name = counter.metric();
            prop_assert!(!name.contains("malformed") && !name.contains("conflicts"), "{}", name);
        }
    }

    /// All formats that were read and leave name one trace and one span.
    #[test]
    fn whatever_arrives_one_context_leaves(
        sent in any_headers(),
        config in proptest::sample::select(vec!["{}", EVERY_FORMAT]),
    ) {
        let left = run(config, &sent);
        let read = if config == "{}" { &FORMATS[..3] } else { FORMATS };
        let seen: Vec<_> = read
            .iter()
            .filter_map(|format| {
                run(&format!(r#"{{"extract": ["{format}"], "inject": []}}"#), &left.lines).context
            })
            .map(|context| (context.trace_id, context.span_id, context.sampling.decision()))
            .collect();
        if let Some((trace_id, span_id, decision)) = seen.first() {
            for (other_trace, other_span, other) in &seen {
                prop_assert_eq!((other_trace, other_span), (trace_id, span_id));
                // A deferred decision is an explicit one in W3C.
                prop_assert!(other.is_none() || decision.is_none() || other == decision);
            }
        }
    }
}
