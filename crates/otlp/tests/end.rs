//! The end of an exporter: of its owner, and of the process.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod common;

use common::{Collector, answer, counts, exporter, push, spans_of};
use meshtrace_otlp::Exporter;

const SECOND: u64 = 1_000_000_000;

/// An exporter with one batch of three spans in flight since `SECOND`.
fn in_flight() -> (Exporter, Collector) {
    let (mut exporter, mut collector) = (exporter(r#"{"cluster": "c"}"#), Collector::default());
    push(&mut exporter, 3);
    exporter.on_tick(SECOND, &mut |call| collector.take(call));
    assert_eq!(collector.calls.len(), 1);
    (exporter, collector)
}

#[test]
fn at_the_end_everything_is_sent_at_once_whatever_went_before() {
    let json = r#"{"cluster": "c", "batch": {"max_spans": 2}}"#;
    let (mut exporter, mut collector) = (exporter(json), Collector::default());
    push(&mut exporter, 9);
    exporter.on_tick(SECOND, &mut |call| collector.take(call));
    answer(&mut exporter, 0, 503, SECOND, &mut collector);
    assert!(!exporter.on_done(SECOND, &mut |call| collector.take(call)));
    // Two, of which one failed; and one with all that is left.
    assert_eq!(collector.calls.len(), 3);
    let sizes: Vec<_> = collector.calls.iter().map(spans_of).collect();
    assert_eq!(sizes, [2, 2, 7]);
    for token in 1..3 {
        assert!(!exporter.is_done());
        answer(&mut exporter, token, 200, SECOND, &mut collector);
    }
    assert!(exporter.is_done());
    assert_eq!(counts(&mut exporter).get("exported"), Some(&9));
}

#[test]
fn at_the_end_what_fails_is_not_tried_again() {
    let (mut exporter, mut collector) = in_flight();
    exporter.on_done(SECOND, &mut |call| collector.take(call));
    answer(&mut exporter, 0, 503, SECOND, &mut collector);
    assert!(exporter.is_done());
    assert_eq!(counts(&mut exporter).get("dropped.expired"), Some(&3));
}

#[test]
fn what_fails_while_the_host_waits_for_the_end_is_sent_again() {
    let (mut exporter, mut collector) = in_flight();
    // Some failures before, after which it would wait for seconds.
    let mut now = SECOND;
    for token in 0..4 {
        answer(&mut exporter, token, 503, now, &mut collector);
        now += 40 * SECOND;
        exporter.on_tick(now, &mut |call| collector.take(call));
    }
    answer(&mut exporter, 4, 503, now, &mut collector);
    exporter.on_last_tick(now, &mut |call| collector.take(call));
    assert_eq!(collector.calls.len(), 5);
    exporter.hurry();
    exporter.on_last_tick(now, &mut |call| collector.take(call));
    assert_eq!(collector.calls.len(), 6);
    answer(&mut exporter, 5, 503, now, &mut collector);
    // Asked again and again, it waits all the same, and half a second at most.
    exporter.hurry();
    exporter.on_last_tick(now, &mut |call| collector.take(call));
    assert_eq!(collector.calls.len(), 6);
    now += SECOND / 2;
    exporter.on_last_tick(now, &mut |call| collector.take(call));
    assert_eq!(collector.calls.len(), 7);
    exporter.stop();
    answer(&mut exporter, 6, 503, now, &mut collector);
    exporter.on_last_tick(now + 100 * SECOND, &mut |call| collector.take(call));
    assert_eq!(collector.calls.len(), 7);
    let counts = counts(&mut exporter);
    assert_eq!(counts.get("dropped.expired"), None);
}
