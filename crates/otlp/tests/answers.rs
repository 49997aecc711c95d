//! What follows from each answer (OpenTelemetry Protocol, "OTLP/HTTP Response" and "OTLP/gRPC
//! Response").
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use common::{Collector, answer, counts, exporter, push, reply, spans_of};
use meshtrace_otlp::{CallError, Exporter};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
const HTTP: &str = r#"{"cluster": "c"}"#;
const GRPC: &str = r#"{"cluster": "c", "protocol": "grpc"}"#;

/// An exporter with one batch of three spans in flight since `SECOND`.
fn in_flight(json: &str) -> (Exporter, Collector) {
    let (mut exporter, mut collector) = (exporter(json), Collector::default());
    push(&mut exporter, 3);
    exporter.on_tick(SECOND, &mut |call| collector.take(call));
    assert_eq!(collector.calls.len(), 1);
    counts(&mut exporter);
    (exporter, collector)
}

/// Answers the first call, at `SECOND`.
fn answer_with(
    exporter: &mut Exporter,
    collector: &mut Collector,
    headers: &[(&str, String)],
    body: &[u8],
    trailers: &[(&str, String)],
) {
    reply(exporter, 0, headers, body, trailers, SECOND, collector);
}

/// When, after the answer at `now`, the batch is sent again, in milliseconds; `None` for never.
fn retried_after(exporter: &mut Exporter, collector: &mut Collector, now: u64) -> Option<u64> {
    let before = collector.calls.len();
    for ms in (0..700_000).step_by(50) {
        exporter.on_tick(now + ms * MS, &mut |call| collector.take(call));
        if collector.calls.len() > before {
            return Some(ms);
        }
    }
    None
}

#[test]
fn over_http_success_refusal_and_retry_are_told_apart() {
    for (status, counter, retried) in [
        (200, "exported", false),
        (202, "exported", false),
        (400, "dropped.refused", false),
        (401, "dropped.refused", false),
        (404, "dropped.refused", false),
        (500, "dropped.refused", false),
        (501, "dropped.refused", false),
        (429, "retries", true),
        (502, "retries", true),
        (503, "retries", true),
        (504, "retries", true),
        // No answer at all.
        (0, "retries", true),
    ] {
        let (mut exporter, mut collector) = in_flight(HTTP);
        answer(&mut exporter, 0, status, SECOND, &mut collector);
        let expected = if counter == "retries" { 1 } else { 3 };
        assert_eq!(
            counts(&mut exporter).get(counter),
            Some(&expected),
            "{status}"
        );
        let after = retried_after(&mut exporter, &mut collector, SECOND);
        assert_eq!(after.is_some(), retried, "{status}");
        if let Some(after) = after {
            assert!((250..=550).contains(&after), "{status}: {after}");
            assert_eq!(collector.calls[0].body, collector.calls[1].body);
        }
    }
}

#[test]
fn over_grpc_success_refusal_and_retry_are_told_apart() {
    for (code, counter, retried) in [
        ("0", "exported", false),
        ("1", "retries", true),
        ("2", "dropped.refused", false),
        ("3", "dropped.refused", false),
        ("4", "retries", true),
        ("7", "dropped.refused", false),
        // Only with RetryInfo.
        ("8", "dropped.refused", false),
        ("10", "retries", true),
        ("11", "retries", true),
        ("12", "dropped.refused", false),
        ("13", "dropped.refused", false),
        ("14", "retries", true),
        ("15", "retries", true),
        ("16", "dropped.refused", false),
        ("junk", "dropped.refused", false),
    ] {
        for in_headers in [false, true] {
            let (mut exporter, mut collector) = in_flight(GRPC);
            let mut headers = vec![(":status", "200".to_owned())];
            let mut trailers = vec![];
            let status = ("grpc-status", code.to_owned());
            if in_headers {
                headers.push(status);
            } else {
                trailers.push(status);
            }
            answer_with(&mut exporter, &mut collector, &headers, &[0; 5], &trailers);
            let expected = if counter == "retries" { 1 } else { 3 };
            assert_eq!(
                counts(&mut exporter).get(counter),
                Some(&expected),
                "{code}"
            );
            let after = retried_after(&mut exporter, &mut collector, SECOND);
            assert_eq!(after.is_some(), retried, "{code}");
        }
    }
    // A proxy's answer instead of the collector's.
    for (status, retried) in [(503, true), (429, true), (404, false), (200, false)] {
        let (mut exporter, mut collector) = in_flight(GRPC);
        answer(&mut exporter, 0, status, SECOND, &mut collector);
        let after = retried_after(&mut exporter, &mut collector, SECOND);
        assert_eq!(after.is_some(), retried, "{status}");
    }
}

#[test]
fn retry_after_is_honoured() {
    // 1970-01-01T00:00:05Z, four seconds after the answer.
    for (value, seconds) in [
        ("7", 7),
        (" 7 ", 7),
        ("Thu, 01 Jan 1970 00:00:05 GMT", 4),
        // Nobody waits longer than five minutes.
        ("99999999999999999999", 300),
    ] {
        let (mut exporter, mut collector) = in_flight(HTTP);
        let headers = [
            (":status", "503".to_owned()),
            ("retry-after", value.to_owned()),
        ];
        answer_with(&mut exporter, &mut collector, &headers, b"", &[]);
        let after = retried_after(&mut exporter, &mut collector, SECOND);
        assert_eq!(after, Some(seconds * 1000), "{value}");
    }
    for junk in ["", "soon", "-1", "Thu, 99 Jan"] {
        let (mut exporter, mut collector) = in_flight(HTTP);
        let headers = [
            (":status", "429".to_owned()),
            ("retry-after", junk.to_owned()),
        ];
        answer_with(&mut exporter, &mut collector, &headers, b"", &[]);
        let after = retried_after(&mut exporter, &mut collector, SECOND).unwrap();
        assert!((250..=550).contains(&after), "{junk}: {after}");
    }
}

#[test]
fn retry_info_of_grpc_is_honoured() {
    // google.rpc.Status {details: [Any {RetryInfo {retry_delay {seconds: 3}}}]}
    let delay = [0x08, 3];
    let info = [&[0x0a, 2][..], &delay].concat();
    let url = b"type.googleapis.com/google.rpc.RetryInfo";
    let any = [&[0x0a, 40][..], url, &[0x12, 4], &info].concat();
    let status = [&[0x1a, u8::try_from(any.len()).unwrap()][..], &any].concat();
    let text = STANDARD_NO_PAD.encode(&status);
    for code in ["8", "14"] {
        let (mut exporter, mut collector) = in_flight(GRPC);
        let headers = [(":status", "200".to_owned())];
        let trailers = [
            ("grpc-status", code.to_owned()),
            ("grpc-status-details-bin", text.clone()),
        ];
        answer_with(&mut exporter, &mut collector, &headers, b"", &trailers);
        let after = retried_after(&mut exporter, &mut collector, SECOND);
        assert_eq!(after, Some(3000), "{code}");
    }
}

#[test]
fn partial_success_counts_what_was_rejected() {
    let response = |rejected_spans| ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans,
            error_message: "no".to_owned(),
        }),
    };
    for (rejected, counted) in [
        (1, Some(1)),
        (3, Some(3)),
        (99, Some(3)),
        (-1, None),
        (0, None),
    ] {
        let body = response(rejected).encode_to_vec();
        let (mut exporter, mut collector) = in_flight(HTTP);
        let ok = [(":status", "200".to_owned())];
        answer_with(&mut exporter, &mut collector, &ok, &body, &[]);
        let counts = counts(&mut exporter);
        assert_eq!(counts.get("rejected").copied(), counted);
        let exported = 3 - counted.unwrap_or(0);
        assert_eq!(counts.get("exported").copied().unwrap_or(0), exported);

        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let framed = [&[0][..], &length, &body].concat();
        let (mut exporter, mut collector) = in_flight(GRPC);
        let trailers = [("grpc-status", "0".to_owned())];
        answer_with(&mut exporter, &mut collector, &ok, &framed, &trailers);
        assert_eq!(
            common::counts(&mut exporter).get("rejected").copied(),
            counted
        );
    }
}

#[test]
fn an_answer_of_success_that_is_no_otlp_is_counted_and_taken() {
    for body in [&b"<html>"[..], b"\xff\xff\xff", b"{}"] {
        let (mut exporter, mut collector) = in_flight(HTTP);
        let ok = [(":status", "200".to_owned())];
        answer_with(&mut exporter, &mut collector, &ok, body, &[]);
        let counts = counts(&mut exporter);
        assert_eq!(counts.get("malformed_answers"), Some(&1), "{body:?}");
        assert_eq!(counts.get("exported"), Some(&3), "{body:?}");
    }
}

#[test]
fn back_off_doubles_up_to_half_a_minute_and_ends_with_success() {
    let (mut exporter, mut collector) = in_flight(HTTP);
    let mut now = SECOND;
    for longest in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
        let token = collector.open.pop().unwrap();
        answer(&mut exporter, token, 503, now, &mut collector);
        let after = retried_after(&mut exporter, &mut collector, now).unwrap();
        assert!(
            (longest / 2..=longest + 50).contains(&after),
            "{after} of {longest}"
        );
        now += after * MS;
    }
    push(&mut exporter, 600);
    assert_eq!(
        collector.open.len(),
        1,
        "one call shows whether the collector is back"
    );
    let token = collector.open.pop().unwrap();
    answer(&mut exporter, token, 200, now, &mut collector);
    assert_eq!(collector.open.len(), 1, "and its answer sends the next");
    exporter.on_tick(now + SECOND, &mut |call| collector.take(call));
    assert_eq!(collector.open.len(), 2);
}

#[test]
fn no_more_calls_are_in_flight_than_the_configuration_says() {
    for most in 1..=4 {
        let json =
            format!(r#"{{"cluster": "c", "batch": {{"max_spans": 1, "max_in_flight": {most}}}}}"#);
        let (mut exporter, mut collector) = (exporter(&json), Collector::default());
        push(&mut exporter, 6);
        exporter.on_tick(SECOND, &mut |call| collector.take(call));
        assert_eq!(collector.open.len(), most);
    }
}

#[test]
fn a_batch_that_nobody_takes_for_five_minutes_makes_room() {
    let (mut exporter, mut collector) = in_flight(HTTP);
    answer(&mut exporter, 0, 503, 301 * SECOND, &mut collector);
    assert_eq!(counts(&mut exporter).get("dropped.expired"), Some(&3));
    assert_eq!(exporter.tick_period(), None);
}

#[test]
fn a_call_without_any_answer_does_not_block_for_ever() {
    let (mut exporter, mut collector) = in_flight(HTTP);
    exporter.on_tick(SECOND + 16 * SECOND, &mut |call| collector.take(call));
    assert_eq!(counts(&mut exporter).get("retries"), Some(&1));
    exporter.on_tick(SECOND + 20 * SECOND, &mut |call| collector.take(call));
    assert_eq!(collector.calls.len(), 2);
    // The answer that comes after all is nobody's.
    answer(&mut exporter, 0, 200, SECOND + 21 * SECOND, &mut collector);
    assert_eq!(counts(&mut exporter).get("exported"), None);
}

#[test]
fn an_unknown_cluster_is_one_complaint_and_its_spans_are_dropped() {
    let (mut exporter, mut collector) = (exporter(HTTP), Collector::default());
    collector.refuse = Some(CallError::UnknownCluster);
    for _ in 0..3 {
        push(&mut exporter, 2);
        exporter.on_tick(SECOND, &mut |call| collector.take(call));
        let complaint = exporter.complaint();
        if let Some(complaint) = complaint {
            let complaint = complaint.line("c", 0);
            assert!(
                complaint.starts_with("mesh_tracing.report.cluster: "),
                "{complaint}"
            );
        }
        assert_eq!(
            counts(&mut exporter).get("dropped.unknown_cluster"),
            Some(&2)
        );
        assert_eq!(exporter.tick_period(), None);
    }
    assert!(exporter.complaint().is_none());
}

#[test]
fn a_call_that_the_host_refuses_is_tried_again() {
    let (mut exporter, mut collector) = (exporter(HTTP), Collector::default());
    collector.refuse = Some(CallError::Other);
    push(&mut exporter, 2);
    exporter.on_tick(SECOND, &mut |call| collector.take(call));
    collector.refuse = None;
    assert!(retried_after(&mut exporter, &mut collector, SECOND).is_some());
}

/// A collector that takes at most `limit` spans in a call. Returns the spans that it took, and the
/// number of calls.
fn deliver(json: &str, limit: usize, pushed: u64, refusal: u16) -> (usize, usize, Exporter) {
    let (mut exporter, mut collector) = (exporter(json), Collector::default());
    push(&mut exporter, pushed);
    exporter.on_tick(SECOND, &mut |call| collector.take(call));
    let (mut taken, mut now) = (0, SECOND);
    while !collector.open.is_empty() || exporter.tick_period().is_some() {
        now += 100 * MS;
        assert!(now < 60 * SECOND, "it does not end");
        for token in core::mem::take(&mut collector.open) {
            let spans = spans_of(&collector.calls[token as usize]);
            let status = match spans > limit {
                true => refusal,
                false => 200,
            };
            taken += if status == 200 { spans } else { 0 };
            answer(&mut exporter, token, status, now, &mut collector);
        }
        exporter.on_tick(now, &mut |call| collector.take(call));
        exporter.take_counts(|_, _| {});
    }
    (taken, collector.calls.len(), exporter)
}

#[test]
fn a_batch_that_is_too_large_is_sent_in_parts() {
    for limit in [1, 2, 7, 59, 60] {
        let (taken, calls, _) = deliver(HTTP, limit, 60, 413);
        assert_eq!(taken, 60, "{limit}");
        // The halvings of two calls at once, and the parts of at least half the limit.
        assert!(
            calls <= 12 + 60_usize.div_ceil(limit.div_ceil(2)),
            "{limit}: {calls}"
        );
    }
    // Another refusal is no matter of size.
    assert_eq!(deliver(HTTP, 7, 60, 400).0, 0);
}

#[test]
fn a_collector_that_finds_every_call_too_large_gets_few_calls() {
    let (taken, calls, mut exporter) = deliver(HTTP, 0, 2000, 413);
    assert_eq!(taken, 0);
    assert!(calls < 30, "{calls}");
    let due = exporter.complaint().expect("a line");
    let line = due.line("c", due.lost().unwrap_or(0));
    assert!(
        line.contains("finds one span too large for a call: status 413"),
        "{line}"
    );
    assert!(exporter.complaint().is_none());
}

#[test]
fn a_span_that_is_too_large_alone_is_dropped_and_counted() {
    let (mut exporter, mut collector) = (exporter(HTTP), Collector::default());
    push(&mut exporter, 2);
    exporter.on_tick(SECOND, &mut |call| collector.take(call));
    answer(&mut exporter, 0, 413, SECOND, &mut collector);
    // The first span alone.
    answer(&mut exporter, 1, 413, SECOND, &mut collector);
    exporter.on_tick(2 * SECOND, &mut |call| collector.take(call));
    answer(&mut exporter, 2, 200, SECOND, &mut collector);
    let counts = counts(&mut exporter);
    let of = |name| counts.get(name).copied();
    assert_eq!(of("split"), Some(1), "{counts:?}");
    assert_eq!(
        (of("dropped.too_large"), of("exported")),
        (Some(1), Some(1)),
        "{counts:?}"
    );
    assert_eq!(exporter.tick_period(), None);
}

#[test]
fn a_message_that_grpc_finds_too_large_is_sent_in_parts() {
    for (status, message, splits) in [
        (
            "8",
            "grpc: received message larger than max (70000 vs. 4096)",
            true,
        ),
        ("8", "quota exceeded", false),
        ("3", "larger than max", false),
    ] {
        let (mut exporter, mut collector) = in_flight(GRPC);
        let headers = [(":status", "200".to_owned())];
        let trailers = [
            ("grpc-status", status.to_owned()),
            ("grpc-message", message.to_owned()),
        ];
        answer_with(&mut exporter, &mut collector, &headers, b"", &trailers);
        let counts = counts(&mut exporter);
        assert_eq!(counts.contains_key("split"), splits, "{message}");
        assert_eq!(counts.contains_key("dropped.refused"), !splits, "{message}");
    }
}

#[test]
fn what_the_trace_does_not_sample_is_counted_with_the_next_tick() {
    let (mut exporter, mut collector) = (exporter(HTTP), Collector::default());
    assert_eq!(exporter.tick_period(), None);
    for _ in 0..3 {
        exporter.count_not_sampled();
    }
    assert!(exporter.tick_period().is_some());
    exporter.on_tick(SECOND, &mut |call| collector.take(call));
    assert_eq!(counts(&mut exporter).get("not_sampled"), Some(&3));
    assert_eq!(exporter.tick_period(), None);
    assert!(collector.calls.is_empty());
}
