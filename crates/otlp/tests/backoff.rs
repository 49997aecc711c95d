//! When a collector that takes nothing is called again, whatever it asks for.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod common;

use common::{Collector, answer, counts, exporter, reply, span};
use meshtrace_otlp::{Attributes, CallError, Exporter};
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

fn push(exporter: &mut Exporter, spans: u64) {
    let attributes = Attributes::new();
    for id in 1..=spans {
        exporter.push(&span(id, &attributes), SECOND);
    }
}

fn in_flight(most: usize) -> (Exporter, Collector) {
    let json =
        format!(r#"{{"cluster": "c", "batch": {{"max_spans": 1, "max_in_flight": {most}}}}}"#);
    let (mut exporter, mut collector) = (exporter(&json), Collector::default());
    push(&mut exporter, 8);
    exporter.on_tick(SECOND, &mut |call| collector.take(call));
    assert_eq!(collector.calls.len(), most);
    (exporter, collector)
}

/// An answer, one of another call, and how many calls there were at that moment.
#[test]
fn a_call_that_was_under_way_ends_no_back_off() {
    for other in [200, 400] {
        let (mut exporter, mut collector) = in_flight(2);
        answer(&mut exporter, 0, 503, SECOND, &mut collector);
        assert_eq!(collector.calls.len(), 2);
        // It was sent before the collector refused the first.
        answer(&mut exporter, 1, other, SECOND + MS, &mut collector);
        exporter.on_tick(SECOND + 2 * MS, &mut |call| collector.take(call));
        assert_eq!(collector.calls.len(), 2, "{other}");
        exporter.on_tick(2 * SECOND, &mut |call| collector.take(call));
        assert_eq!(collector.calls.len(), 3, "{other}");
        // One that is sent after the back-off shows that the collector is back.
        answer(&mut exporter, 2, 200, 2 * SECOND, &mut collector);
        exporter.on_tick(2 * SECOND, &mut |call| collector.take(call));
        assert!(collector.calls.len() > 3, "{other}");
    }
}

#[test]
fn a_date_is_compared_with_the_date_of_its_answer() {
    // The proxy's own clock is at one second after the epoch.
    for (after, date, wait) in [
        (
            "Sat, 28 Nov 2026 06:00:07 GMT",
            Some("Sat, 28 Nov 2026 06:00:00 GMT"),
            7000,
        ),
        ("Thu, 01 Jan 1970 00:00:05 GMT", None, 4000),
        ("Thu, 01 Jan 1970 00:00:05 GMT", Some("soon"), 4000),
        (
            "Sat, 28 Nov 2026 05:00:00 GMT",
            Some("Sat, 28 Nov 2026 06:00:00 GMT"),
            0,
        ),
    ] {
        let (mut exporter, mut collector) = in_flight(1);
        let mut headers = vec![
            (":status", "503".to_owned()),
            ("retry-after", after.to_owned()),
        ];
        headers.extend(date.map(|date| ("date", date.to_owned())));
        reply(&mut exporter, 0, &headers, b"", &[], SECOND, &mut collector);
        let at = |ms: u64| SECOND + ms * MS;
        exporter.on_tick(at(wait.max(250) - 1), &mut |call| collector.take(call));
        assert_eq!(collector.calls.len(), 1, "{after}");
        exporter.on_tick(at(wait.max(500)), &mut |call| collector.take(call));
        assert_eq!(collector.calls.len(), 2, "{after}");
    }
}

#[test]
fn a_call_that_fails_at_once_is_a_call() {
    let mut exporter = exporter(r#"{"cluster": "c", "batch": {"max_spans": 1}}"#);
    push(&mut exporter, 4);
    for second in 1..=120 {
        exporter.on_tick(second * SECOND, &mut |_| Err(CallError::Other));
    }
    let counts = counts(&mut exporter);
    assert_eq!(counts["calls"], counts["retries"]);
    // After a back-off of half a minute at most.
    assert!((6..=12).contains(&counts["calls"]), "{counts:?}");
}

proptest! {
    /// Whatever refusals say and however they come: no more calls than what was in flight, and one
    /// after each wait of a quarter of a second, doubled each time up to a quarter of a minute.
    #[test]
    fn calls_are_bounded(
        most in 1..=4_usize,
        answers in prop::collection::vec((
            prop::sample::select(vec!["429", "502", "503", "504"]),
            prop::sample::select(vec![
                "0", "1", "-1", "", "soon", "Thu, 01 Jan 1970 00:00:00 GMT", "Sat, 28 Nov 2026 06:00:07 GMT",
            ]),
            0..20_u64,
        ), 400),
    ) {
        let (mut exporter, mut collector) = in_flight(most);
        let mut now = SECOND;
        for (status, after, later) in answers {
            now += later * MS;
            exporter.on_tick(now, &mut |call| collector.take(call));
            if let Some(token) = collector.open.pop() {
                let headers = [(":status", status.to_owned()), ("retry-after", after.to_owned())];
                reply(&mut exporter, token, &headers, b"", &[], now, &mut collector);
            }
        }
        let elapsed = (now - SECOND) / MS;
        let (mut bound, mut waited, mut next) = (most, 250, 500);
        while waited <= elapsed {
            bound += 1;
            waited += next;
            next = (next * 2).min(15_000);
        }
        prop_assert!(collector.calls.len() <= bound, "{} of {bound}", collector.calls.len());
    }
}
