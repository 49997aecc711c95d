//! The project's vector set: what each format's specification says about single requests.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

mod common;

use common::{Left, Lines, run};
use meshtrace_propagation::format::Format;
use meshtrace_propagation::{Outgoing, SamplingState, tracestate};
use serde_json::Value;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Cases whose answer depends on reading B3 strictly, or one `traceparent` alone, and why.
const STRICT_DIFFERS: &[(&str, &str)] = &[
    (
        "b3-multi/trace-id-upper",
        "lenient reading lowers upper-case ids, as old clients send them",
    ),
    (
        "b3-multi/sampled-empty",
        "lenient reading keeps the ids and defers",
    ),
    (
        "b3-single/parent-without-sampled",
        "not in the grammar; lenient reading takes it, as brave does",
    ),
    (
        "w3c/duplicated-identical",
        "both lines name one trace, which `on_repeated` continues by default",
    ),
];

/// Cases of a trace id without a span, why they come, and so leave as they came unless spans are
/// started here.
const UNFINISHED: &[(&str, &str, &str)] = &[
    (
        "xray/root-only",
        "abcdef121234567890abcdef12345678",
        "a load balancer's trace id, not malformed",
    ),
    (
        "gcp/trace-id-only",
        "0af7651916cd43dd8448eb211c80319c",
        "documented as legal",
    ),
    (
        "gcp/span-id-zero",
        "0af7651916cd43dd8448eb211c80319c",
        "documented as legal: no span",
    ),
    (
        "datadog/parent-missing",
        "00000000000000008448eb211c80319c",
        "a trace that begins at the caller",
    ),
];

/// Cases of which a part is malformed and does not leave, and why the context stays.
const MENDED: &[(&str, &str)] = &[
    (
        "datadog/tid-uppercase-rejected",
        "the right half of the id is valid",
    ),
    ("datadog/tags-malformed", "the ids are valid"),
    ("xray/spaces", "a header's value begins with no space"),
];

/// The vector set's names of formats that are not this project's, and the formats that are read and
/// written for them.
const FORMATS: &[(&str, &[Format])] = &[
    ("w3c", &[Format::Tracecontext]),
    ("w3c-tracestate", &[Format::Tracecontext]),
    ("b3-multi", &[Format::B3Multi]),
    ("b3-single", &[Format::B3, Format::B3Multi]),
    ("ot", &[Format::Ottrace]),
];

/// The formats that are read and written for the vector set's `name`; none for one that this
/// project does not read.
fn formats(name: &str) -> Vec<Format> {
    match FORMATS.iter().find(|(known, _)| *known == name) {
        Some((_, formats)) => formats.to_vec(),
        None => Format::ALL
            .iter()
            .copied()
            .filter(|format| format.name() == name)
            .collect(),
    }
}

/// As a list of the configuration.
fn list(formats: &[Format]) -> String {
    let names: Vec<_> = formats.iter().map(|format| format.name()).collect();
    format!("{names:?}")
}

/// Whether an application's own format of that `name` is translated to and from.
fn is_translated(name: &str) -> bool {
    let formats = formats(name);
    let mut others = formats.iter();
    others.any(|format| !Format::EXTRACTED_BY_DEFAULT.contains(format))
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors.json")).expect("the vector set")
}

fn sent(case: &Value) -> Lines {
    let mut lines = Lines::new();
    for (name, value) in case["headers"].as_object().expect("headers") {
        // Envoy hands over names in lower case.
        let name = name.to_ascii_lowercase();
        match value {
            Value::Array(values) => {
                let values = values.iter().map(|v| v.as_str().expect("text"));
                lines.extend(values.map(|v| (name.clone(), v.as_bytes().to_vec())));
            }
            value => lines.push((name, value.as_str().expect("text").as_bytes().to_vec())),
        }
    }
    lines
}

/// The configuration that reads and writes only the formats of a case.
fn config(case: &Value, strict: bool) -> String {
    let name = case["format"].as_str().expect("format");
    let formats = list(&formats(name));
    let on_repeated = if strict { "reject" } else { "same_trace" };
    format!(
        r#"{{"extract": {formats}, "inject": {formats}, "b3_strict": {strict},
            "on_repeated": "{on_repeated}"}}"#
    )
}

/// The cases of the formats whose name in the vector set `is_wanted`.
fn cases(is_wanted: impl Fn(&str) -> bool) -> Vec<Value> {
    let vectors = vectors();
    let cases = vectors["cases"].as_array().expect("cases").iter();
    let cases: Vec<_> = cases
        .filter(|case| is_wanted(case["format"].as_str().expect("format")))
        .cloned()
        .collect();
    assert!(!cases.is_empty());
    cases
}

fn all_cases() -> Vec<Value> {
    cases(|name| !formats(name).is_empty())
}

fn assert_context(name: &str, expect: &Value, left: &Left) {
    if expect["trace_id"].is_null() {
        assert_eq!(left.context, None, "{name}: a decision is no context");
        assert_eq!(
            sampling(&left.decision.outgoing),
            expect["sampled"],
            "{name}"
        );
        return;
    }
    let context = left
        .context
        .unwrap_or_else(|| panic!("{name}: no context, expected {expect}"));
    assert_eq!(
        context.trace_id.to_hex(),
        expect["trace_id"].as_str().unwrap().as_bytes(),
        "{name}"
    );
    assert_eq!(
        context.span_id.to_hex(),
        expect["span_id"].as_str().unwrap().as_bytes(),
        "{name}"
    );
    assert_eq!(
        Value::from(context.sampling.decision()),
        expect["sampled"],
        "{name}"
    );
    assert_eq!(
        context.sampling == SamplingState::Debug,
        expect["debug"] == true,
        "{name}"
    );
    if let Some(random) = expect["random"].as_bool() {
        assert_eq!(context.random, random, "{name}");
    }
    let parent = context
        .b3_parent
        .map(|id| String::from_utf8(id.to_hex().to_vec()).unwrap());
    if name.starts_with("b3") {
        assert_eq!(Value::from(parent), expect["parent_span_id"], "{name}");
    } else {
        assert_eq!(parent, None, "{name}: the parent is B3's own business");
    }
}

fn sampling(outgoing: &Outgoing) -> Value {
    match outgoing {
        Outgoing::Sampling(sampling) => sampling.decision().into(),
        other => panic!("expected a decision without ids, got {other:?}"),
    }
}

#[test]
fn each_format_is_read_as_its_specification_says() {
    for case in all_cases() {
        let name = case["name"].as_str().unwrap();
        for strict in [true, false] {
            let left = run(&config(&case, strict), &sent(&case));
            let differs = STRICT_DIFFERS.iter().any(|(known, _)| *known == name);
            let refused = case["expect"] == "invalid";
            match (refused, differs, strict) {
                // `invalid` and the rest are what strict reading says, but for one case.
                (true, true, false) => assert!(left.context.is_some(), "{name}: lenient"),
                (false, true, true) => assert_eq!(left.context, None, "{name}: strict"),
                (true, ..) => assert_eq!(left.context, None, "{name}, strict: {strict}"),
                (false, ..) => assert_context(name, &case["expect"], &left),
            }
        }
    }
}

#[test]
fn what_is_refused_is_not_forwarded() {
    for case in all_cases() {
        if case["expect"] == "invalid" {
            let left = run(&config(&case, true), &sent(&case));
            let name = case["name"].as_str().unwrap();
            if UNFINISHED.iter().any(|(known, ..)| *known == name) {
                assert_eq!(left.edits, 0, "{name}");
            } else {
                assert_eq!(left.text(), Vec::<String>::new(), "{name}");
            }
        }
    }
}

#[test]
fn a_trace_id_without_a_span_is_continued_where_spans_are_started() {
    let cases = all_cases();
    for (name, trace_id, _) in UNFINISHED {
        let case = cases.iter().find(|case| case["name"] == *name);
        let config = format!(
            r#"{{"extract": {}, "on_missing": "generate"}}"#,
            list(Format::ALL)
        );
        let left = run(&config, &sent(case.expect("a case of the set")));
        let Outgoing::Context(context) = left.decision.outgoing else {
            panic!("{name}: {:?}", left.decision);
        };
        assert_eq!(context.trace_id.to_hex(), trace_id.as_bytes(), "{name}");
    }
}

#[test]
fn a_valid_context_in_its_own_format_leaves_as_it_came() {
    for case in cases(|name| name == "w3c") {
        let traceparent = case["headers"]
            .as_object()
            .unwrap()
            .values()
            .next()
            .unwrap();
        let text = traceparent.as_str().unwrap_or_default();
        if case["expect"] == "invalid" || !text.trim().starts_with("00-") {
            continue;
        }
        let left = run(&config(&case, false), &sent(&case));
        assert_eq!(
            left.header("traceparent").as_deref().map(str::trim),
            Some(text.trim())
        );
    }
}

#[test]
fn what_other_formats_rightly_say_leaves_to_the_letter() {
    for case in cases(is_translated) {
        if case["expect"] != "invalid" {
            let name = case["name"].as_str().unwrap();
            let left = run(&config(&case, false), &sent(&case));
            let mended = MENDED.iter().any(|(known, _)| *known == name);
            // Only a client of HTTP/2 can send such an end, on which the next hop may close the
            // connection.
            let is_spaced = |(_, value): &(String, Vec<u8>)| value.trim_ascii() != value;
            let spaced = sent(&case).iter().any(is_spaced);
            assert_eq!(left.edits, usize::from(mended || spaced), "{name}");
        }
    }
}

#[test]
fn tracestate_members_are_those_that_the_specification_grants() {
    for case in cases(|name| name == "w3c-tracestate") {
        let (name, expect) = (&case["name"], &case["expect"]);
        if expect == "invalid" {
            continue;
        }
        let sent = sent(&case);
        let lines = sent.iter().filter(|(name, _)| name == "tracestate");
        let members = tracestate::parse(lines.map(|(_, value)| value.as_slice())).map(|members| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            members
                .iter()
                .map(|m| Value::from(vec![text(m.key), text(m.value)]))
                .collect()
        });
        match &expect["tracestate"] {
            Value::Array(expected) => {
                assert_eq!(members.as_ref(), Some(expected), "{name}");
                let left = run(&config(&case, false), &sent);
                // But for the white space that no header may have at its ends.
                let is_spaced = |(_, value): &(String, Vec<u8>)| value.trim_ascii() != value;
                let expected = usize::from(sent.iter().any(is_spaced));
                assert_eq!(
                    left.edits, expected,
                    "{name}: tracestate stays to the letter"
                );
            }
            Value::Null => {
                assert_eq!(members, None, "{name}");
                let left = run(&config(&case, false), &sent);
                let names: Vec<_> = left.lines.iter().map(|(name, _)| name.as_str()).collect();
                assert_eq!(
                    names,
                    ["traceparent"],
                    "{name}: the whole of it is discarded"
                );
            }
            other => panic!("{name}: {other}"),
        }
    }
}

#[test]
fn conversions_say_the_same_in_the_other_format() {
    let mut tested = 0;
    for case in vectors()["conversions"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let sent = sent(case);
        for (target, expected) in case["emit"].as_object().unwrap() {
            let extract = match target.as_str() {
                "policy:b3-first" => r#"["b3", "b3multi", "tracecontext"]"#.to_owned(),
                _ => list(Format::ALL),
            };
            let inject = match target.as_str() {
                "w3c" | "w3c-rewritten" | "policy:w3c-first" | "policy:b3-first" => "tracecontext",
                other => other,
            };
            let left = run(
                &format!(r#"{{"extract": {extract}, "inject": ["{inject}"]}}"#),
                &sent,
            );
            let expected = expected.as_object().unwrap();
            for (header, value) in expected {
                assert_eq!(
                    left.header(header).as_deref(),
                    value.as_str(),
                    "{name} -> {target}: {header}"
                );
            }
            if expected.is_empty() {
                assert_eq!(left.header("traceparent"), None, "{name} -> {target}");
            }
            tested += 1;
        }
    }
    assert!(tested >= 28, "only {tested} conversions were tested");
}

// Section 3.2.2.1: "Version 255 is invalid."
#[test]
fn version_ff_is_no_version() {
    let sent = common::parse("traceparent: ff-$T-$S-01");
    assert_eq!(run("{}", &sent).text(), Vec::<String>::new());
}

// Section 3.3.1.1: the limit is on list-members, so one that comes twice counts twice.
#[test]
fn a_tracestate_of_33_members_is_discarded_though_two_have_one_key() {
    let members: Vec<_> = (0..32).map(|i| format!("k{i}=v")).collect();
    let count = |text: &str| {
        let members = tracestate::parse([text.as_bytes()].into_iter())?;
        Some(members.len())
    };
    assert_eq!(count(&members.join(",")), Some(32));
    let twice = format!("{},k0=w", members.join(","));
    assert_eq!(count(&twice), None);
}
