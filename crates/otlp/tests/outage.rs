//! What waits while the collector takes nothing: as many spans and bytes as are allowed, however
//! slowly they come.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod common;

use std::collections::BTreeMap;

use common::{Collector, counts, decode, exporter, reply, span};
use meshtrace_otlp::{Attributes, BATCH_BYTES, CallError, Exporter, MAX_BATCHES};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

/// Answers all calls that wait with `status`.
fn answer_all(exporter: &mut Exporter, collector: &mut Collector, status: u16, now: u64) {
    for token in std::mem::take(&mut collector.open) {
        let lines = [(":status", status.to_string())];
        let trailers = [("grpc-status", "0".to_owned())];
        let trailers = if status == 200 { &trailers[..] } else { &[] };
        reply(exporter, token, &lines, b"", trailers, now, collector);
    }
}

/// Wakes and takes what is sent, until nothing waits; returns what was counted.
fn recover(
    exporter: &mut Exporter,
    collector: &mut Collector,
    mut now: u64,
) -> BTreeMap<&'static str, u64> {
    let mut totals = BTreeMap::new();
    loop {
        for (name, amount) in counts(exporter) {
            *totals.entry(name).or_default() += amount;
        }
        if exporter.tick_period().is_none() {
            return totals;
        }
        now += 100 * MS;
        exporter.on_tick(now, &mut |call| collector.take(call));
        answer_all(exporter, collector, 200, now);
    }
}

/// The ids of the spans of each call.
fn calls(collector: &Collector, is_grpc: bool) -> Vec<Vec<Vec<u8>>> {
    let ids = |call| {
        let request = decode(call, is_grpc);
        let spans = &request.resource_spans[0].scope_spans[0].spans;
        spans.iter().map(|span| span.span_id.clone()).collect()
    };
    collector.calls.iter().map(ids).collect()
}

/// Ten requests a second for ten minutes, and a wake-up after each.
#[test]
fn a_quiet_proxy_loses_nothing_in_an_outage() {
    for (outage, refuse) in [
        (100, None),
        (2900, None),
        (100, Some(CallError::Other)),
        (2900, Some(CallError::Other)),
    ] {
        let mut exporter = exporter(r#"{"cluster": "c"}"#);
        let mut collector = Collector::default();
        let attributes = Attributes::new();
        let mut now = SECOND;
        for id in 1..=outage {
            exporter.push(&span(id, &attributes), now);
            now += 100 * MS;
            exporter.on_tick(now, &mut |call| match refuse {
                Some(refused) => Err(refused),
                None => collector.take(call),
            });
            answer_all(&mut exporter, &mut collector, 503, now);
        }
        collector.calls.clear();
        let counts = recover(&mut exporter, &mut collector, now);
        assert_eq!(counts.get("exported"), Some(&outage), "{counts:?}");
        assert_eq!(counts.get("dropped.queue_full"), None, "{counts:?}");
        let mut ids: Vec<_> = calls(&collector, false).concat();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len() as u64, outage);
    }
}

/// As many spans as `max_queue` says wait, whatever `max_spans` is and however they come.
#[test]
fn the_queue_holds_as_many_spans_as_it_says() {
    for protocol in ["http/protobuf", "grpc"] {
        for (most, burst) in [
            (1, 1),
            (1, 100),
            (20, 1),
            (20, 2000),
            (300, 7),
            (512, 2000),
            (8192, 50),
        ] {
            let json = format!(
                r#"{{"cluster": "c", "protocol": "{protocol}", "batch": {{"max_spans": {most}, "max_queue": 8192}}}}"#
            );
            let mut exporter = exporter(&json);
            let mut collector = Collector::default();
            let mut attributes = Attributes::new();
            attributes.text("a.key", &[b'x'; 200]);
            let mut now = SECOND;
            for id in 1..=8200 {
                exporter.push(&span(id, &attributes), now);
                if id % burst == 0 {
                    now += MS;
                    exporter.on_tick(now, &mut |call| collector.take(call));
                    answer_all(&mut exporter, &mut collector, 503, now);
                }
            }
            collector.calls.clear();
            let counts = recover(&mut exporter, &mut collector, now);
            assert_eq!(
                counts.get("exported"),
                Some(&8192),
                "{most} {burst}: {counts:?}"
            );
            assert_eq!(counts.get("dropped.queue_full"), Some(&8));
            let calls = calls(&collector, protocol == "grpc");
            let mut times = BTreeMap::<_, u32>::new();
            for call in &calls {
                assert!(call.len() <= most, "{} of {most}", call.len());
                for id in call {
                    *times.entry(id.clone()).or_default() += 1;
                }
            }
            assert_eq!(times.len(), 8192);
            assert!(times.values().all(|times| *times == 1));
            // No call for a few spans where more wait.
            let least = 8192 / most.min(600) + 20;
            assert!(calls.len() <= least, "{} of {least}", calls.len());
        }
    }
}

/// Long spans of all lengths: the limit is 3.5 MiB, and no call is larger than 224 KiB.
#[test]
fn the_queue_holds_as_many_bytes_as_it_says() {
    let resource = "r".repeat(150 * 1024);
    for resource in ["", &resource] {
        let json = serde_json::json!({
            "cluster": "c", "batch": {"max_spans": 50, "max_queue": 65536}, "resource": {"a": resource},
        });
        let mut exporter = exporter(&json.to_string());
        let mut collector = Collector::default();
        let mut now = SECOND;
        let mut pushed = 0;
        for id in 1..=2000_u64 {
            let mut attributes = Attributes::new();
            for i in 0..id % 16 {
                attributes.text(&format!("key.{i}"), &[b'x'; 1000]);
            }
            exporter.push(&span(id, &attributes), now);
            pushed += 1;
            now += MS;
            exporter.on_tick(now, &mut |_| Err(CallError::Other));
        }
        let dropped = counts(&mut exporter)["dropped.queue_full"];
        let exported = recover(&mut exporter, &mut collector, now)["exported"];
        assert_eq!(exported + dropped, pushed);
        assert!(
            collector
                .calls
                .iter()
                .all(|call| call.body.len() <= BATCH_BYTES)
        );
        let around = collector.calls.len() * (resource.len() + 300);
        let bytes: usize = collector.calls.iter().map(|call| call.body.len()).sum();
        let spans = bytes - around.min(bytes);
        let most = MAX_BATCHES * BATCH_BYTES;
        assert!(spans <= most, "{spans}");
        assert!(bytes + 200 * 1024 >= most, "{bytes}");
    }
}

/// While no call can be made, none of the spans that come is in a call of its own afterwards.
#[test]
fn what_waits_for_an_answer_is_gathered() {
    let mut exporter = exporter(r#"{"cluster": "c"}"#);
    let mut collector = Collector::default();
    let attributes = Attributes::new();
    let mut now = SECOND;
    for id in 1..=40 {
        exporter.push(&span(id, &attributes), now);
        now += 100 * MS;
        exporter.on_tick(now, &mut |call| collector.take(call));
    }
    let sizes = |collector: &Collector| {
        collector
            .calls
            .iter()
            .map(common::spans_of)
            .collect::<Vec<_>>()
    };
    assert_eq!(sizes(&collector), [1, 1]);
    answer_all(&mut exporter, &mut collector, 200, now);
    exporter.on_tick(now, &mut |call| collector.take(call));
    assert_eq!(sizes(&collector), [1, 1, 38]);
}
