//! Values that an intermediary joined by commas in one line, in every format.
#![allow(clippy::expect_used, reason = "a test may fail")]

mod common;

use common::{ids, parse, run};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const ROOT: &str = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736";
const OTHER_ROOT: &str = "Root=1-80f198ee-56343ba864fe8b2a57d3eff7";
const HALF: &str = "a3ce929d0e0e4736";

/// What leaves of `sent` in `format` alone.
fn left(format: &str, on_repeated: &str, sent: &str) -> Vec<String> {
    let config = format!(
        r#"{{"extract": ["{format}"], "inject": ["{format}"], "on_repeated": "{on_repeated}"}}"#
    );
    run(&config, &parse(sent)).text()
}

fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<_> = ids(text)
        .lines()
        .map(|line| line.trim().to_owned())
        .collect();
    lines.sort();
    lines
}

#[track_caller]
fn continued(format: &str, sent: &str, expected: &str) {
    assert_eq!(left(format, "same_trace", sent), lines(expected), "{sent}");
    assert!(left(format, "reject", sent).is_empty(), "{sent}");
}

#[track_caller]
fn malformed(format: &str, sent: &str) {
    for on_repeated in ["same_trace", "reject"] {
        let left = left(format, on_repeated, sent);
        assert!(left.is_empty(), "{on_repeated} {sent}: {left:?}");
    }
}

#[track_caller]
fn malformed_by_letter(format: &str, sent: &str) {
    let left = left(format, "reject", sent);
    assert!(left.is_empty(), "{sent}: {left:?}");
}

#[test]
fn a_decision_without_ids_that_was_joined_is_the_first() {
    let b3 = |value: &str| left("b3", "same_trace", &format!("b3: {value}"));
    assert_eq!(b3("0,0"), ["b3: 0"]);
    assert_eq!(b3("d , 1"), ["b3: d"]);
    assert_eq!(b3("0,"), ["b3: 0"]);
    let mixed: [&str; 0] = [];
    assert_eq!(b3("0,junk"), mixed);
    assert_eq!(b3(&ids("0,$T-$S-1")), mixed);
    malformed_by_letter("b3", "b3: 0,0");
}

#[test]
fn a_comma_ends_the_value_whatever_stands_before_it() {
    let xray = |text: &str| format!("x-amzn-trace-id: {text}");
    for (first, second) in [
        (format!("{ROOT};Parent=$S;Sampled=1"), ROOT.to_owned()),
        (
            format!("{ROOT};Parent=$S;Sampled=1"),
            format!("{ROOT};Parent=$S2;Sampled=0"),
        ),
        (
            format!("{ROOT};Parent=$S;Sampled=1;Lineage=a:1|b:2"),
            format!("{ROOT};Lineage=c:3"),
        ),
        (format!("{ROOT};Parent=$S;Self=x"), ROOT.to_owned()),
    ] {
        for comma in [",", " , "] {
            let sent = xray(&format!("{first}{comma}{second}"));
            continued("xray", &sent, &xray(&first));
        }
    }
    for sent in [
        format!("{ROOT};Parent=$S;Sampled=1,{OTHER_ROOT}"),
        format!("{ROOT};Parent=$S;Lineage=a:1,{OTHER_ROOT}"),
        format!("{ROOT};Parent=$S;Lineage=a:1,Lineage=b:2"),
        ",".to_owned(),
    ] {
        malformed("xray", &xray(&sent));
    }
    // An empty value names no trace.
    let whole = format!("{ROOT};Parent=$S;Sampled=1");
    for sent in [
        format!("{whole},"),
        format!(", {whole}"),
        format!("{whole},,{whole}"),
    ] {
        continued("xray", &xray(&sent), &xray(&whole));
    }
    continued(
        "tracecontext",
        "traceparent: cc-$T-$S-01-x,00-$T-$S2-01",
        "traceparent: 00-$T-$S-01",
    );
    malformed("tracecontext", "traceparent: cc-$T-$S-01-x,00-$T2-$S2-01");
    malformed("tracecontext", "traceparent: cc-$T-$S-01,00-$T2-$S2-01");
    malformed("jaeger", "uber-trace-id: $T:$S:0,$T2:1");
    malformed("gcp", "x-cloud-trace-context: $T/1;o=1,$T2/1;o=1");
}

/// A value that tells the context is handed on as it is: what only the format knows is not lost.
#[test]
fn the_value_that_counts_is_left_as_it_came() {
    continued(
        "tracecontext",
        "traceparent: 00-$T-$S-09,00-$T-$S2-00",
        "traceparent: 00-$T-$S-09",
    );
    continued(
        "jaeger",
        "uber-trace-id: $T:$S:$P:1,$T:$S2:0:1",
        "uber-trace-id: $T:$S:$P:1",
    );
    continued(
        "gcp",
        "x-cloud-trace-context: $T/5;o=3, $T/6",
        "x-cloud-trace-context: $T/5;o=3",
    );
    // An id of 64 bits stays one.
    continued(
        "b3multi",
        &format!(
            "x-b3-traceid: {HALF},{HALF}
             x-b3-spanid: $S,$S
             x-b3-sampled: 1"
        ),
        &format!(
            "x-b3-traceid: {HALF}
             x-b3-spanid: $S
             x-b3-sampled: 1"
        ),
    );
}

#[test]
fn joined_headers_of_datadog_keep_origin_tags_and_the_users_priority() {
    for (priority, tags) in [("2", "_dd.p.dm=-4"), ("-1", "_dd.p.dm=-4,_dd.p.usr.id=1")] {
        let others = format!(
            "x-datadog-origin: synthetics
             x-datadog-tags: {tags}"
        );
        let expected = format!(
            "x-datadog-trace-id: 123
             x-datadog-parent-id: 456
             x-datadog-sampling-priority: {priority}
             {others}"
        );
        for (ids, parents) in [
            ("123,123", "456,456"),
            ("123 , 123", "456"),
            ("123", "456,789"),
        ] {
            for joined in [priority.to_owned(), format!("{priority},{priority}")] {
                let sent = format!(
                    "x-datadog-trace-id: {ids}
                     x-datadog-parent-id: {parents}
                     x-datadog-sampling-priority: {joined}
                     {others}"
                );
                assert_eq!(
                    left("datadog", "same_trace", &sent),
                    lines(&expected),
                    "{sent}"
                );
            }
        }
    }
    // Of another trace they say nothing.
    let config = r#"{"extract": ["tracecontext"], "inject": ["datadog"]}"#;
    let sent = "traceparent: 00-$T-$S-01
                x-datadog-trace-id: 123,123
                x-datadog-parent-id: 456,456
                x-datadog-origin: synthetics
                x-datadog-tags: _dd.p.dm=-4";
    let left = run(config, &parse(sent));
    assert_eq!(left.header("x-datadog-origin"), None);
    assert_eq!(
        left.header("x-datadog-tags").as_deref(),
        Some("_dd.p.tid=4bf92f3577b34da6")
    );
}

#[test]
fn one_malformed_id_among_valid_ones_is_malformed_in_every_header() {
    for (format, trace, span, good, other) in [
        ("b3multi", "x-b3-traceid: $T", "x-b3-spanid", "$S", "$S2"),
        (
            "ottrace",
            "ot-tracer-traceid: $T",
            "ot-tracer-spanid",
            "$S",
            "$S2",
        ),
        (
            "datadog",
            "x-datadog-trace-id: 5",
            "x-datadog-parent-id",
            "6",
            "7",
        ),
    ] {
        let sent = |span_ids: &str| format!("{trace}\n{span}: {span_ids}");
        for values in [
            format!("{good},junk"),
            format!("junk,{good}"),
            format!("{good},{other},junk"),
            ",".to_owned(),
        ] {
            malformed(format, &sent(&values));
        }
        let expected = left(format, "same_trace", &sent(good));
        for values in [format!("{good},"), format!(",{good}")] {
            assert_eq!(left(format, "same_trace", &sent(&values)), expected);
            malformed_by_letter(format, &sent(&values));
        }
        let span_is_left = expected.contains(&ids(&format!("{span}: {good}")));
        assert!(span_is_left, "{expected:?}");
        let two = left(format, "same_trace", &sent(&format!("{good}, {other}")));
        assert_eq!(two, expected, "{format}");
    }
    // A parent that is no id is none, as in one value.
    let sent = "x-b3-traceid: $T
                x-b3-spanid: $S
                x-b3-parentspanid: $P,junk";
    assert_eq!(
        left("b3multi", "same_trace", sent),
        lines("x-b3-traceid: $T\nx-b3-spanid: $S")
    );
}

/// As it is where two formats name them.
#[test]
fn the_right_half_of_an_id_names_the_same_trace() {
    continued("b3", &format!("b3: $T-$S-1,{HALF}-$S-1"), "b3: $T-$S-1");
    continued("b3", &format!("b3: {HALF}-$S-1,$T-$S-1"), "b3: $T-$S-1");
    continued(
        "jaeger",
        &format!("uber-trace-id: $T:$S:0:1,{HALF}:$S:0:1"),
        "uber-trace-id: $T:$S:0:1",
    );
    malformed("b3", &format!("b3: $T-$S-1,{HALF}-$S-1,$T2-$S-1"));
    malformed("b3", "b3: $T-$S-1,64fe8b2a57d3eff7-$S-1");
    let zeros = format!("0000000000000000{HALF}");
    malformed(
        "tracecontext",
        &format!("traceparent: 00-$T-$S-01,00-{zeros}-$S-01"),
    );
}
