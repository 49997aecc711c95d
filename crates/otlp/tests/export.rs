//! What leaves is OTLP: every body is decoded by the published protocol's own types.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test may fail"
)]

mod common;

use common::{Collector, decode, exporter, ids, span};
use meshtrace_otlp::{Attributes, Counter, Kind, Span, Status};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

#[test]
fn a_batch_is_one_request_with_the_resource_before_its_spans() {
    for protocol in ["http/protobuf", "grpc"] {
        let json = format!(
            r#"{{"cluster": "outbound|4317||otel.example.com", "protocol": "{protocol}",
                 "headers": {{"X-Key": "k"}}, "resource": {{"a": "b", "n": 1, "t": true}}}}"#
        );
        let mut exporter = exporter(&json);
        let mut collector = Collector::default();
        let attributes = Attributes::new();
        exporter.push(&span(1, &attributes), SECOND);
        exporter.push(&span(2, &attributes), SECOND);
        exporter.on_tick(SECOND * 2, &mut |call| collector.take(call));

        let [call] = collector.calls.as_slice() else {
            panic!("{:?}", collector.calls);
        };
        let path = match protocol {
            "grpc" => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            _ => "/v1/traces",
        };
        assert_eq!(call.header(":path"), Some(path));
        assert_eq!(call.header(":authority"), Some("otel.example.com"));
        assert_eq!(call.header(":method"), Some("POST"));
        assert_eq!(call.header("x-key"), Some("k"));
        assert_eq!(call.cluster, "outbound|4317||otel.example.com");
        let request = decode(call, protocol == "grpc");
        let [resource] = request.resource_spans.as_slice() else {
            panic!("one resource");
        };
        let attributes = &resource.resource.as_ref().unwrap().attributes;
        let value = |key: &str| {
            let found = attributes.iter().find(|attribute| attribute.key == key);
            found.and_then(|attribute| attribute.value.clone()?.value)
        };
        assert_eq!(value("a"), Some(Value::StringValue("b".to_owned())));
        assert_eq!(value("n"), Some(Value::IntValue(1)));
        assert_eq!(value("t"), Some(Value::BoolValue(true)));
        let name = Value::StringValue("unknown_service".to_owned());
        assert_eq!(value("service.name"), Some(name));
        let [scope] = resource.scope_spans.as_slice() else {
            panic!("one scope");
        };
        assert_eq!(scope.scope.as_ref().unwrap().name, "meshtrace");
        assert_eq!(scope.spans.len(), 2);
        assert_eq!(scope.spans[1].span_id, 2_u64.to_be_bytes());
    }
}

#[test]
fn nothing_leaves_before_its_time_and_a_full_batch_does_not_wait() {
    let mut exporter = exporter(r#"{"cluster": "c", "batch": {"max_spans": 3}}"#);
    let mut collector = Collector::default();
    let attributes = Attributes::new();
    assert_eq!(exporter.tick_period(), None);
    exporter.push(&span(1, &attributes), SECOND);
    assert_eq!(exporter.tick_period().unwrap().as_millis(), 100);
    exporter.on_tick(SECOND + 1, &mut |call| collector.take(call));
    assert_eq!(collector.calls.len(), 0);
    for id in 2..=4 {
        exporter.push(&span(id, &attributes), SECOND);
    }
    exporter.on_tick(SECOND + 2, &mut |call| collector.take(call));
    let sizes: Vec<_> = collector.calls.iter().map(common::spans_of).collect();
    assert_eq!(sizes, [3]);
    exporter.on_tick(SECOND * 2, &mut |call| collector.take(call));
    assert_eq!(collector.calls.len(), 2);
    for token in 0..2 {
        common::answer(&mut exporter, token, 200, SECOND * 2, &mut collector);
    }
    assert_eq!(exporter.tick_period(), None);
    assert_eq!(common::counts(&mut exporter).get("exported"), Some(&4));
}

proptest! {
    /// Whatever a span says, the published types read the same.
    #[test]
    fn every_span_decodes_to_what_it_was(
        trace in 1_u128..,
        id in 1_u64..,
        parent in any::<Option<u64>>(),
        remote: bool,
        sampled: bool,
        state in "[ -~]{0,600}",
        name in "\\PC{0,40}",
        client: bool,
        start: u64,
        end: u64,
        error: bool,
        texts in prop::collection::vec(("[a-z.]{1,200}", prop::collection::vec(any::<u8>(), 0..2000)), 0..20),
        numbers in prop::collection::vec(("[a-z.]{1,20}", any::<i64>()), 0..5),
        truths in prop::collection::vec(("[a-z.]{1,20}", any::<bool>()), 0..3),
    ) {
        let (trace_id, span_id, parent) = ids(trace, id, parent);
        let (mut one, mut two) = (Attributes::new(), Attributes::new());
        // Each has a key of its own, to tell which had no room.
        let key = |key: &str, i: usize, list: bool| format!("{key}{i}{list}");
        for (i, (name, value)) in texts.iter().enumerate() {
            one.text(&key(name, i, false), value);
            one.text_list(&key(name, i, true), value, 100);
        }
        for (key, number) in &numbers {
            two.int(key, *number);
        }
        for (key, truth) in &truths {
            two.bool(key, *truth);
        }
        let span = Span {
            trace_id, span_id, parent, parent_is_remote: remote, sampled,
            tracestate: state.as_bytes(), name: name.as_bytes(),
            kind: if client { Kind::Client } else { Kind::Server },
            start, end, attributes: &[&one, &two],
            status: if error { Status::Error } else { Status::Unset },
        };
        let mut exporter = exporter(r#"{"cluster": "c"}"#);
        let mut collector = Collector::default();
        exporter.push(&span, 0);
        exporter.on_tick(SECOND, &mut |call| collector.take(call));
        let request = decode(&collector.calls[0], false);
        let read = &request.resource_spans[0].scope_spans[0].spans;
        prop_assert_eq!(read.len(), 1);
        let read = &read[0];
        prop_assert_eq!(&read.trace_id, &trace.to_be_bytes());
        prop_assert_eq!(&read.span_id, &id.to_be_bytes());
        let parent_bytes = parent.map(|id| id.to_bytes().to_vec()).unwrap_or_default();
        prop_assert_eq!(&read.parent_span_id, &parent_bytes);
        let remote = parent.is_some() && remote;
        prop_assert_eq!(read.flags, u32::from(sampled) | 0x100 | if remote { 0x200 } else { 0 });
        prop_assert_eq!(&read.trace_state, &state);
        prop_assert_eq!(&read.name, &name);
        prop_assert_eq!(read.kind, if client { 3 } else { 2 });
        prop_assert_eq!((read.start_time_unix_nano, read.end_time_unix_nano), (start, end));
        let status = read.status.as_ref().map(|status| status.code());
        prop_assert_eq!(status, error.then_some(StatusCode::Error));
        prop_assert_eq!(read.dropped_attributes_count, one.dropped());

        let mut attributes = read.attributes.iter();
        let mut dropped = 0;
        for (i, (name, value)) in texts.iter().enumerate() {
            for list in [false, true] {
                let lossy = String::from_utf8_lossy(value);
                let limit = if list { 100 } else { 1024 };
                let text = lossy.get(..lossy.floor_char_boundary(limit)).unwrap();
                let read = attributes.clone().next();
                let Some(read) = read.filter(|read| read.key == key(name, i, list)) else {
                    dropped += 1;
                    continue;
                };
                attributes.next();
                let read = match read.value.clone().unwrap().value.unwrap() {
                    Value::ArrayValue(array) if list => array.values[0].value.clone().unwrap(),
                    value => value,
                };
                prop_assert_eq!(read, Value::StringValue(text.to_owned()));
            }
        }
        prop_assert_eq!(dropped, one.dropped());
        for (key, number) in &numbers {
            let read = attributes.next().unwrap();
            prop_assert_eq!(&read.key, key);
            prop_assert_eq!(read.value.clone().unwrap().value, Some(Value::IntValue(*number)));
        }
        for (_, truth) in &truths {
            let read = attributes.next().unwrap();
            prop_assert_eq!(read.value.clone().unwrap().value, Some(Value::BoolValue(*truth)));
        }
        prop_assert!(attributes.next().is_none());
    }

    /// Whatever a collector answers and whenever: no span is lost without being counted.
    #[test]
    fn every_span_is_accounted_for(steps in prop::collection::vec(common::step(), 1..300)) {
        let mut exporter = exporter(
            r#"{"cluster": "c", "batch": {"max_spans": 4, "max_queue": 16, "interval_ms": 100}}"#,
        );
        let mut collector = Collector::default();
        let attributes = Attributes::new();
        let (mut now, mut pushed) = (SECOND, 0_u64);
        let mut totals = std::collections::BTreeMap::<&str, u64>::new();
        for step in steps {
            pushed += common::run(step, &mut exporter, &mut collector, &mut now, &attributes);
            for (name, amount) in common::counts(&mut exporter) {
                *totals.entry(name).or_default() += amount;
            }
        }
        // At the end all that waits is sent once more, and taken.
        collector.refuse = None;
        exporter.on_done(now, &mut |call| collector.take(call));
        for token in std::mem::take(&mut collector.open) {
            common::answer(&mut exporter, token, 200, now, &mut collector);
        }
        for (name, amount) in common::counts(&mut exporter) {
            *totals.entry(name).or_default() += amount;
        }
        prop_assert!(exporter.is_done());
        prop_assert_eq!(exporter.tick_period(), None);
        let ended: u64 = totals
            .iter()
            .filter(|(name, _)| name.starts_with("dropped.") || ["exported", "rejected"].contains(name))
            .map(|(_, amount)| amount)
            .sum();
        prop_assert_eq!(ended, pushed, "{:?}", totals);
    }
}

#[test]
fn a_full_queue_drops_what_comes_and_its_memory_is_bounded() {
    let mut exporter = exporter(r#"{"cluster": "c", "batch": {"max_queue": 65536}}"#);
    let mut attributes = Attributes::new();
    for i in 0..12 {
        attributes.text("a.key.of.some.length", &[b'a' + i; 50]);
    }
    for id in 1..=20_000 {
        exporter.push(&span(id, &attributes), 0);
    }
    let mut collector = Collector::default();
    exporter.on_done(SECOND, &mut |call| collector.take(call));
    let bytes: usize = collector.calls.iter().map(|call| call.body.len()).sum();
    assert!(collector.calls.len() <= meshtrace_otlp::MAX_BATCHES);
    assert!(bytes <= meshtrace_otlp::MAX_BATCHES * meshtrace_otlp::BATCH_BYTES);
    let sent: usize = collector.calls.iter().map(common::spans_of).sum();
    let dropped = common::counts(&mut exporter)["dropped.queue_full"];
    assert_eq!(sent as u64 + dropped, 20_000);
    assert!(dropped > 0);
    assert_eq!(
        Counter::DroppedQueueFull.metric(),
        "meshtrace.report.dropped.queue_full"
    );
}
