//! Where the published Rust propagators read a header otherwise than its specification says, and we
//! do not.
//!
//! The tables are exact: a crate that is mended fails this test, as does a format of ours that is
//! not read as the vectors say.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail"
)]
#![allow(
    deprecated,
    reason = "the last releases of these two crates say that there will be no others"
)]

mod common;

use common::{Lines, run};
use meshtrace_propagation::{Outgoing, SamplingState, tracestate};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_0_32::propagation::TextMapPropagator as TextMapPropagator032;
use opentelemetry_jaeger_propagator::Propagator as Jaeger;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_zipkin::{B3Encoding, Propagator as Zipkin};
use serde_json::Value;

/// A case, and what the propagator makes of it.
type Table = [(&'static str, &'static str)];

/// `opentelemetry_sdk` 0.33, `TraceContextPropagator`.
const TRACECONTEXT: &Table = &[
    ("w3c/random-only", "loses the random flag"),
    ("w3c/sampled-and-random", "loses the random flag"),
    ("w3c/flags-ef", "loses the random flag"),
    ("w3c/version-01-flags-3-chars", "accepts"),
    ("w3c/v00-trailing-dash", "accepts"),
    ("w3c/version-length-3", "accepts"),
    ("w3c/version-length-4", "accepts"),
    ("w3c/version-length-1", "accepts"),
    ("w3c/version-uppercase", "accepts"),
    ("w3c/version-plus-sign", "accepts"),
    ("w3c/trace-id-64bit", "accepts"),
    ("w3c/flags-too-long", "accepts"),
    ("w3c/flags-too-short", "accepts"),
    ("w3c/duplicated-different", "accepts"),
    ("w3c/duplicated-identical", "accepts"),
    (
        "w3c-tracestate/empty-then-value-header",
        "reads another tracestate",
    ),
    (
        "w3c-tracestate/three-headers-in-order",
        "reads another tracestate",
    ),
    ("w3c-tracestate/key-double-at", "reads another tracestate"),
    ("w3c-tracestate/key-two-at", "reads another tracestate"),
    ("w3c-tracestate/key-empty", "keeps the tracestate"),
    ("w3c-tracestate/key-241-at-14", "reads another tracestate"),
    ("w3c-tracestate/value-non-ascii", "keeps the tracestate"),
    ("w3c-tracestate/value-tab-inside", "keeps the tracestate"),
    ("w3c-tracestate/32-members", "reads another tracestate"),
    ("w3c-tracestate/33-members", "keeps the tracestate"),
];

/// `opentelemetry-zipkin` 0.33, `Propagator` with both encodings, which it reads in any case.
const B3: &Table = &[
    ("b3-multi/flags-0-no-sampled", "decides otherwise"),
    ("b3-multi/only-sampled-0", "drops the decision"),
    ("b3-multi/only-sampled-1", "drops the decision"),
    ("b3-single/debug", "decides otherwise"),
    ("b3-single/debug-parent", "decides otherwise"),
    ("b3-single/only-0", "drops the decision"),
    ("b3-single/only-d", "drops the decision"),
    ("b3-single/max-ids", "decides otherwise"),
    ("b3-single/too-many-fields", "accepts"),
];

/// `opentelemetry-jaeger-propagator` 0.32.
const JAEGER: &Table = &[("jaeger/flags-ff", "refuses")];

/// Where a specification leaves room, and we take more than it asks for.
const OPEN: &[(&str, &str)] = &[
    (
        "b3-single/parent-without-sampled",
        "outside of the grammar; lenient reading takes it, as brave does",
    ),
    (
        "w3c-tracestate/duplicate-same",
        "the W3C's own harness takes one member or both",
    ),
    (
        "w3c-tracestate/duplicate-different",
        "the W3C's own harness takes one member or both",
    ),
    (
        "jaeger/flags-long",
        "\"one or two hex digits\"; zeros before them change nothing",
    ),
];

/// What a reader makes of a request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    /// Trace and span; none beside a decision without ids.
    ids: Option<(String, String)>,
    sampled: Option<bool>,
    debug: bool,
    random: bool,
    tracestate: Vec<(String, String)>,
}

/// A published propagator's view of the lines: names without case, values as text.
struct Carrier<'a>(&'a Lines);

impl Carrier<'_> {
    fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        let lines = self.0.iter();
        let own = lines.filter(move |(name, _)| name.eq_ignore_ascii_case(key));
        own.filter_map(|(_, value)| str::from_utf8(value).ok())
    }
}

macro_rules! extractor {
    ($opentelemetry:ident) => {
        impl $opentelemetry::propagation::Extractor for Carrier<'_> {
            fn get(&self, key: &str) -> Option<&str> {
                self.values(key).next()
            }

            fn keys(&self) -> Vec<&str> {
                self.0.iter().map(|(name, _)| name.as_str()).collect()
            }

            fn get_all(&self, key: &str) -> Option<Vec<&str>> {
                let values: Vec<_> = self.values(key).collect();
                (!values.is_empty()).then_some(values)
            }
        }
    };
}

extractor!(opentelemetry);
extractor!(opentelemetry_0_32);

/// The flags by which these crates keep B3's states within a context.
const DEFERRED: u8 = 0x02;
const DEBUG: u8 = 0x04;

macro_rules! answer {
    ($opentelemetry:ident, $propagator:expr, $lines:expr, $defers:expr) => {{
        use $opentelemetry::trace::TraceContextExt as _;
        let nothing = $opentelemetry::Context::new();
        let context = $propagator.extract_with_context(&nothing, &Carrier($lines));
        let span = context.span();
        let span = span.span_context();
        let flags = span.trace_flags().to_u8();
        span.is_valid().then(|| Answer {
            ids: Some((span.trace_id().to_string(), span.span_id().to_string())),
            sampled: if $defers && flags & DEFERRED != 0 {
                None
            } else {
                Some(span.is_sampled())
            },
            debug: flags & DEBUG != 0,
            random: !$defers && flags & 0x02 != 0,
            tracestate: members(&span.trace_state().header()),
        })
    }};
}

fn members(header: &str) -> Vec<(String, String)> {
    let members = header.split(',').filter(|member| !member.is_empty());
    let pair = |member: &str| match member.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (member.to_owned(), String::new()),
    };
    members.map(pair).collect()
}

fn ours(format: &str, lines: &Lines) -> Option<Answer> {
    let extract = match format {
        "b3-single" | "b3-multi" => r#"["b3", "b3multi"]"#,
        "jaeger" => r#"["jaeger"]"#,
        _ => r#"["tracecontext"]"#,
    };
    let config = format!(
        r#"{{"extract": {extract}, "inject": [], "b3_strict": true, "on_repeated": "reject"}}"#
    );
    let left = run(&config, lines);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let sampling = match left.decision.outgoing {
        Outgoing::Nothing => return None,
        Outgoing::Sampling(sampling) => sampling,
        Outgoing::Context(context) => context.sampling,
    };
    let states = lines.iter().filter(|(name, _)| name == "tracestate");
    let tracestate = tracestate::parse(states.map(|(_, value)| value.as_slice()));
    Some(Answer {
        ids: left
            .context
            .map(|c| (text(&c.trace_id.to_hex()), text(&c.span_id.to_hex()))),
        sampled: sampling.decision(),
        debug: sampling == SamplingState::Debug,
        random: left.context.is_some_and(|context| context.random),
        tracestate: tracestate
            .unwrap_or_default()
            .iter()
            .map(|member| (text(member.key), text(member.value)))
            .collect(),
    })
}

/// How `answer` differs from what the vectors expect.
fn difference(expect: &Value, answer: Option<&Answer>) -> Option<&'static str> {
    let Some(answer) = answer else {
        return match expect {
            Value::String(_) => None,
            expect if expect["trace_id"].is_null() => Some("drops the decision"),
            _ => Some("refuses"),
        };
    };
    if expect == "invalid" {
        return Some("accepts");
    }
    let text = |key: &str| expect[key].as_str().map(str::to_owned);
    if answer.ids != text("trace_id").zip(text("span_id")) {
        return Some("reads other ids");
    }
    if Value::from(answer.sampled) != expect["sampled"] {
        return Some("decides otherwise");
    }
    if answer.debug != (expect["debug"] == true) {
        return Some("loses debug");
    }
    if expect["random"]
        .as_bool()
        .is_some_and(|r| r != answer.random)
    {
        return Some("loses the random flag");
    }
    match &expect["tracestate"] {
        Value::Array(members) => {
            let pair = |member: &Value| {
                let text = |i: usize| member[i].as_str().expect("text").to_owned();
                (text(0), text(1))
            };
            let members: Vec<_> = members.iter().map(pair).collect();
            (members != answer.tracestate).then_some("reads another tracestate")
        }
        // Discarded as a whole; not a key of the other formats' cases.
        _ => (!answer.tracestate.is_empty()).then_some("keeps the tracestate"),
    }
}

fn sent(case: &Value) -> Lines {
    let mut lines = Lines::new();
    for (name, value) in case["headers"].as_object().expect("headers") {
        let values = match value {
            Value::Array(values) => values.clone(),
            value => vec![value.clone()],
        };
        for value in values {
            let value = value.as_str().expect("text").as_bytes().to_vec();
            lines.push((name.to_ascii_lowercase(), value));
        }
    }
    lines
}

/// Asserts that `published` disagrees with the vectors of `formats` exactly as `table` says, and we
/// nowhere.
fn compare(table: &Table, formats: &[&str], published: impl Fn(&Lines) -> Option<Answer>) {
    let vectors: Value = serde_json::from_str(include_str!("vectors.json")).expect("vectors");
    let mut found = Vec::new();
    let mut compared = 0;
    for case in vectors["cases"].as_array().expect("cases") {
        let format = case["format"].as_str().expect("a format");
        let (name, expect) = (case["name"].as_str().expect("a name"), &case["expect"]);
        let open = OPEN.iter().any(|(known, _)| *known == name);
        if open || !formats.contains(&format) {
            continue;
        }
        let lines = sent(case);
        let ours = ours(format, &lines);
        assert_eq!(difference(expect, ours.as_ref()), None, "{name}: {ours:?}");
        if let Some(difference) = difference(expect, published(&lines).as_ref()) {
            found.push((name, difference));
        }
        compared += 1;
    }
    assert!(compared > 10, "only {compared} cases");
    let text = |rows: &[(&str, &str)]| {
        let rows = rows.iter();
        rows.map(|(name, what)| format!("    (\"{name}\", \"{what}\"),\n"))
            .collect::<String>()
    };
    let (found, expected) = (text(&found), text(table));
    assert!(found == expected, "of {compared} cases:\n{found}");
}

#[test]
fn the_sdk_reads_w3c_otherwise_in_these_cases() {
    let propagator = TraceContextPropagator::new();
    compare(TRACECONTEXT, &["w3c", "w3c-tracestate"], |lines| {
        answer!(opentelemetry, propagator, lines, false)
    });
}

#[test]
fn the_zipkin_crate_reads_b3_otherwise_in_these_cases() {
    let propagator = Zipkin::with_encoding(B3Encoding::SingleAndMultiHeader);
    compare(B3, &["b3-single", "b3-multi"], |lines| {
        answer!(opentelemetry, propagator, lines, true)
    });
}

#[test]
fn the_jaeger_crate_reads_jaeger_otherwise_in_these_cases() {
    let propagator = Jaeger::new();
    compare(JAEGER, &["jaeger"], |lines| {
        answer!(opentelemetry_0_32, propagator, lines, false)
    });
}
