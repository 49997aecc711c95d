//! What is told of a request, given what came in, what is configured and what the tracer wrote.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

use std::collections::BTreeMap;

use meshtrace_access_log::{AccessLogIds, AccessLogTraceConfig, Counter, Ids, Tally};
use meshtrace_headers::{Headers, encode};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const T: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const S: &str = "00f067aa0ba902b7";
/// The proxy's own spans.
const X: &str = "e457b5a2e4d86bd1";
const Y: &str = "53ce929d0e0e4736";
/// A trace that begins at a proxy with Zipkin's tracer, and its first span.
const ROOT: &str = "80f198ee56343ba864fe8b2a57d3eff7";
const ROOT_SPAN: &str = "64fe8b2a57d3eff7";

fn fill(text: &str) -> String {
    let ids = [
        ("$T", T),
        ("$S", S),
        ("$X", X),
        ("$Y", Y),
        ("$RS", ROOT_SPAN),
        ("$R", ROOT),
    ];
    ids.iter()
        .fold(text.to_owned(), |text, (name, id)| text.replace(name, id))
}

fn block(lines: &[&str]) -> Vec<u8> {
    let lines: Vec<_> = lines
        .iter()
        .map(|line| {
            let line = fill(line);
            let (name, value) = line.split_once(": ").expect("a header line");
            (name.to_owned(), value.to_owned())
        })
        .collect();
    encode(&lines)
}

struct Told {
    log: BTreeMap<String, String>,
    response: BTreeMap<String, String>,
    tally: Tally,
}

impl Told {
    /// `trace span parent flags format`, with `-` for what is absent.
    fn line(&self) -> String {
        AccessLogIds::KEYS
            .iter()
            .map(|key| self.log.get(*key).map_or("-", String::as_str))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

fn ids(config: &str) -> AccessLogIds {
    let config: AccessLogTraceConfig = meshtrace_config::read(config.as_bytes()).unwrap();
    AccessLogIds::new(&config).unwrap()
}

/// One request: its headers as they came, `None` where the filter saw only its end, and as they
/// were then.
fn tell(config: &str, came: Option<&[&str]>, end: &[&str]) -> Told {
    let ids = ids(config);
    let mut tally = Tally::default();
    let mut log = BTreeMap::new();
    let mut response = BTreeMap::new();
    let mut set = |now: &Ids, before: &Ids| {
        ids.write(now, before, |key, value| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            log.insert(text(key), text(&value.expect("one that fits")));
        });
    };
    let came = came.map(block);
    let arrival = came.as_ref().map(|came| {
        let arrival = ids.arrive(Headers::parse(came).unwrap(), &mut tally);
        set(arrival.recorded(), &Ids::default());
        ids.inject_response(&arrival, |header, value| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            response.insert(text(header.name()), text(&value.expect("one that fits")));
        });
        arrival
    });
    let end = block(end);
    let at_end = ids.at_end(arrival.as_ref(), Headers::parse(&end).unwrap(), &mut tally);
    let before = arrival
        .as_ref()
        .map(|arrival| *arrival.recorded())
        .unwrap_or_default();
    set(&at_end, &before);
    Told {
        log,
        response,
        tally,
    }
}

fn check(config: &str, came: &[&str], end: &[&str], expected: &str) {
    let told = tell(config, Some(came), end).line();
    assert_eq!(told, fill(expected), "{config}: {came:?} -> {end:?}");
}

const W3C: &[&str] = &["traceparent: 00-$T-$S-01"];
const W3C_OWN: &[&str] = &["traceparent: 00-$T-$X-01"];
const MULTI: &[&str] = &["x-b3-traceid: $T", "x-b3-spanid: $S", "x-b3-sampled: 1"];

#[test]
fn what_the_tracer_wrote_is_the_proxys_span_without_spawned_ones() {
    let config = r#"{"tracer": "tracecontext", "spawn_upstream_span": false}"#;
    check(config, W3C, W3C_OWN, "$T $X $S 01 tracecontext");
    check(config, &[], W3C_OWN, "$T $X - 01 tracecontext");
    check(
        config,
        MULTI,
        &[W3C_OWN, MULTI].concat(),
        "$T $X - 01 tracecontext",
    );
    let unsampled = ["traceparent: 00-$T-$X-00"];
    check(config, W3C, &unsampled, "$T $X $S 00 tracecontext");
    let random = ["traceparent: 00-$T-$X-03"];
    check(config, W3C, &random, "$T $X $S 03 tracecontext");
}

#[test]
fn without_knowing_of_spawned_spans_w3c_tells_no_span() {
    for config in [
        r#"{"tracer": "tracecontext"}"#,
        r#"{"tracer": "tracecontext", "spawn_upstream_span": true}"#,
        "{}",
    ] {
        check(config, W3C, W3C_OWN, "$T - $S 01 tracecontext");
        check(config, &[], W3C_OWN, "$T - - 01 tracecontext");
    }
}

#[test]
fn an_unchanged_context_is_the_callers() {
    let otel = r#"{"tracer": "tracecontext", "spawn_upstream_span": false}"#;
    check(otel, W3C, W3C, "$T - $S - tracecontext");
    // A tracer of W3C starts another trace, and of that one nothing is told.
    check(otel, MULTI, MULTI, "- - - - -");
    check(
        otel,
        &["traceparent: junk"],
        &["traceparent: junk"],
        "- - - - -",
    );
    check(r#"{"tracer": "none"}"#, W3C, W3C, "$T - $S 01 tracecontext");
    check(r#"{"tracer": "none"}"#, MULTI, MULTI, "$T - $S 01 b3multi");
    check("{}", W3C, W3C, "$T - - 01 tracecontext");
}

#[test]
fn a_request_that_was_traced_has_a_trace_that_an_unknown_tracer_keeps_for_itself() {
    let traced = "x-request-id: 16ddaf02-79e7-921c-99c9-893beaf46186";
    let not = "x-request-id: 16ddaf02-79e7-421c-99c9-893beaf46186";
    let with = |id| [W3C, &[id]].concat();
    check("{}", &with(traced), &with(traced), "- - - - -");
    check("{}", &with(not), &with(not), "$T - - 01 tracecontext");
    let none = r#"{"tracer": "none"}"#;
    check(
        none,
        &with(traced),
        &with(traced),
        "$T - $S 01 tracecontext",
    );
    // The step before the filter found no span.
    let ids = r#"{"ids": {"trace_id_header": "x-t"}}"#;
    check(ids, &with(traced), &with(traced), "$T - - 01 tracecontext");
    let disagreeing = ["traceparent: 00-$T-$S-01", "b3: $R-$X-1"];
    check("{}", &disagreeing, &disagreeing, "- - - - -");
}

#[test]
fn the_proxys_own_ids_win_over_all_that_can_be_inferred() {
    let config = r#"{"ids": {"trace_id_header": "x-t", "span_id_header": "x-s"}}"#;
    let own = ["x-t: $T", "x-s: $X", "traceparent: 00-$T-$S-01"];
    check(config, &own, W3C, "$T $X $S - tracecontext");
    let spawned = ["traceparent: 00-$T-$Y-01"];
    check(config, &own, &spawned, "$T $X $S 01 tracecontext");
    // What a filter behind it made of the headers is another trace's.
    let other = ["traceparent: 00-$R-$Y-01"];
    check(config, &own, &other, "$T $X $S - tracecontext");
    check(config, &["x-t: $T", "x-s: $X"], &[], "$T $X - - -");
    let narrow = ["x-t: $RS"];
    check(config, &narrow, &[], "0000000000000000$RS - - - -");
}

#[test]
fn headers_of_ids_without_ids_are_not_believed() {
    let config = r#"{"ids": {"trace_id_header": "x-t", "span_id_header": "x-s"}}"#;
    for came in [
        &["x-t: -", "x-s: $X"][..],
        &["x-t: $T", "x-t: $T"],
        &["x-s: $X"],
        &["x-t: 00000000000000000000000000000000"],
    ] {
        check(config, came, &[], "- - - - -");
    }
    let told = tell(config, Some(&["x-t: junk"]), &[]);
    assert!(told.tally.has(Counter::IdsMalformed));
    // Whoever answered before the filter may have done so before the step that writes them too.
    let told = tell(config, None, &["x-t: $T", "x-s: $X"]);
    assert_eq!(told.line(), "- - - - -");
    assert!(told.tally.has(Counter::EndOnly));
}

#[test]
fn own_headers_are_those_that_came() {
    let ids = ids(r#"{"ids": {"trace_id_header": "X-T", "span_id_header": "x-s"}}"#);
    let came = block(&["x-s: 1", "x-other: 2"]);
    let names: Vec<_> = ids.own_headers(Headers::parse(&came).unwrap()).collect();
    assert_eq!(names, [b"x-s"]);
}

#[test]
fn zipkins_first_span_is_the_right_half_of_its_trace() {
    let own = &["x-b3-traceid: $R", "x-b3-spanid: $RS", "x-b3-sampled: 1"];
    let spawned = &[
        "x-b3-traceid: $R",
        "x-b3-spanid: $Y",
        "x-b3-parentspanid: $RS",
        "x-b3-sampled: 1",
    ];
    for config in ["{}", r#"{"tracer": "b3"}"#] {
        check(config, &[], own, "$R $RS - 01 b3multi");
        check(config, &[], spawned, "$R $RS - 01 b3multi");
    }
    let ids = r#"{"tracer": "b3", "ids": {"trace_id_header": "x-t"}}"#;
    check(ids, &["x-t: $R"], &[], "$R $RS - - -");
    // Ids that Envoy reads and the specification does not know may be those of this trace.
    let short = ["x-t: $R", "x-b3-traceid: abc", "x-b3-spanid: 1"];
    check(ids, &short, &[], "$R - - - -");
}

#[test]
fn a_parent_that_came_alone_is_not_taken_for_the_tracers() {
    let came = ["x-b3-parentspanid: $S"];
    let end = [
        "x-b3-traceid: $R",
        "x-b3-spanid: $RS",
        "x-b3-parentspanid: $S",
        "x-b3-sampled: 1",
    ];
    check("{}", &came, &end, "$R - - 01 b3multi");
    let told = r#"{"tracer": "b3", "spawn_upstream_span": false}"#;
    check(told, &came, &end, "$R $RS - 01 b3multi");
}

#[test]
fn b3_tells_a_spawned_span_by_its_parent() {
    let spawned = &[
        "x-b3-traceid: $T",
        "x-b3-spanid: $Y",
        "x-b3-parentspanid: $X",
        "x-b3-sampled: 1",
    ];
    for config in [
        "{}",
        r#"{"tracer": "b3"}"#,
        r#"{"tracer": "b3", "spawn_upstream_span": true}"#,
    ] {
        check(config, MULTI, spawned, "$T $X $S 01 b3multi");
    }
}

#[test]
fn a_child_of_the_caller_is_the_proxys_span_or_a_spawned_one_of_a_shared_span() {
    let end = &[
        "x-b3-traceid: $T",
        "x-b3-spanid: $X",
        "x-b3-parentspanid: $S",
        "x-b3-sampled: 1",
    ];
    check(r#"{"tracer": "b3"}"#, MULTI, end, "$T - - 01 b3multi");
    for config in [
        r#"{"tracer": "b3", "spawn_upstream_span": false}"#,
        r#"{"tracer": "b3", "shared_span_context": false}"#,
    ] {
        check(config, MULTI, end, "$T $X $S 01 b3multi");
    }
    let came = [MULTI, &["x-b3-parentspanid: $Y"]].concat();
    for config in [
        r#"{"tracer": "b3", "spawn_upstream_span": true}"#,
        r#"{"tracer": "b3", "shared_span_context": true}"#,
    ] {
        check(config, &came, end, "$T $S $Y 01 b3multi");
    }
}

#[test]
fn a_shared_span_is_the_callers_also_where_nothing_was_written() {
    let config = r#"{"tracer": "b3", "shared_span_context": true}"#;
    let came = [MULTI, &["x-b3-parentspanid: $Y"]].concat();
    check(config, &came, &came, "$T $S $Y 01 b3multi");
    // A refused request has no span.
    let told = tell(config, None, &came);
    assert_eq!(told.line(), fill("$T - - 01 b3multi"));
    let not = r#"{"tracer": "b3", "shared_span_context": false}"#;
    check(not, &came, &came, "$T - $S 01 b3multi");
    check(r#"{"tracer": "b3"}"#, &came, &came, "$T - - 01 b3multi");
}

#[test]
fn a_filter_behind_it_that_repeats_the_caller_in_another_format_is_no_tracer() {
    let converted = [&["traceparent: 00-$T-$S-01"], MULTI].concat();
    check(
        r#"{"tracer": "tracecontext", "spawn_upstream_span": false}"#,
        MULTI,
        &converted,
        "- - - - -",
    );
    check("{}", MULTI, &converted, "$T - - 01 b3multi");
}

#[test]
fn what_was_written_in_two_ways_is_told_as_far_as_it_agrees() {
    let config = r#"{"tracer": ["b3", "tracecontext"], "spawn_upstream_span": false}"#;
    let end = ["traceparent: 00-$T-$X-01", "b3: $T-$Y-1"];
    check(
        config,
        MULTI,
        &[&end[..], MULTI].concat(),
        "$T - - 01 b3multi",
    );
    let told = tell(
        config,
        Some(&[]),
        &["traceparent: 00-$T-$X-01", "b3: $R-$Y-1"],
    );
    assert_eq!(told.line(), "- - - - -");
    assert!(told.tally.has(Counter::Ambiguous));
}

#[test]
fn the_order_of_the_tracer_decides_which_context_it_continues() {
    let came = ["traceparent: 00-$T-$X-01", "b3: $T-$S-1"];
    let end = ["traceparent: 00-$T-$Y-01", "b3: $T-$Y-1-$S"];
    let config = r#"{"tracer": ["b3", "tracecontext"], "spawn_upstream_span": false}"#;
    check(config, &came, &end, "$T $Y $S 01 b3");
    let otel = r#"{"tracer": "tracecontext", "spawn_upstream_span": false}"#;
    check(otel, &came, &end, "$T $Y $X 01 tracecontext");
}

#[test]
fn every_shape_tells_the_same_ids() {
    let config = r#"{
        "tracer": "tracecontext", "spawn_upstream_span": false,
        "shapes": ["datadog", "b3_64", {"gcp": {"project": "my-project"}}]
    }"#;
    let told = tell(config, Some(W3C), W3C_OWN);
    for (key, value) in [
        ("trace_id_datadog", "11803532876627986230"),
        ("span_id_datadog", "16453819474850114513"),
        ("trace_id_b3_64", "a3ce929d0e0e4736"),
        (
            "trace_id_gcp",
            "projects/my-project/traces/4bf92f3577b34da6a3ce929d0e0e4736",
        ),
    ] {
        assert_eq!(told.log.get(key).map(String::as_str), Some(value), "{key}");
    }
    let keys: Vec<_> = ids(config).keys().collect();
    assert!(told.log.keys().all(|key| keys.contains(&key.as_str())));
}

#[test]
fn a_response_tells_what_is_certain_by_then() {
    let headers = r#""response_header": {"name": "X-Trace-Id", "traceresponse": true}"#;
    let with = |rest: &str| format!("{{{headers}, {rest}}}");
    let ids = r#""ids": {"trace_id_header": "x-t", "span_id_header": "x-s"}"#;
    let own = ["x-t: $T", "x-s: $X"];
    let request_id = "x-request-id: 16ddaf02-79e7-921c-99c9-893beaf46186";
    for (came, flags) in [
        (own.to_vec(), "00"),
        ([&own[..], W3C].concat(), "01"),
        ([&own[..], &[request_id]].concat(), "01"),
        (
            [&own[..], &[request_id, "traceparent: 00-$T-$S-00"]].concat(),
            "00",
        ),
    ] {
        let told = tell(&with(ids), Some(&came), &[]);
        let expected = format!("00-{T}-{X}-{flags}");
        assert_eq!(told.response["x-trace-id"], T);
        assert_eq!(told.response["traceresponse"], expected, "{came:?}");
    }
    let told = tell(&with(r#""tracer": "tracecontext""#), Some(W3C), W3C);
    assert_eq!(told.response.keys().collect::<Vec<_>>(), ["x-trace-id"]);
    // The tracer may have begun another trace, which then is in the log.
    let told = tell(&with(r#""tracer": null"#), Some(W3C), W3C_OWN);
    assert!(told.response.is_empty(), "{:?}", told.response);
}
