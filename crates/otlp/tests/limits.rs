//! What goes with every batch leaves room for every span; what does not is refused.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod common;

use common::{Collector, counts, decode, span};
use meshtrace_otlp::{
    Attributes, BATCH_BYTES, Exporter, MAX_HEADER_BYTES, MAX_RESOURCE_BYTES, MAX_TRACESTATE,
    Report, ReportConfig, ServiceName, Span, resource,
};

const SECOND: u64 = 1_000_000_000;

fn report(json: &serde_json::Value) -> Result<Report, String> {
    let config: ReportConfig =
        meshtrace_config::read(json.to_string().as_bytes()).expect("a configuration");
    Report::new(&config).map_err(|error| error.to_string())
}

#[test]
fn what_is_too_large_for_every_batch_is_refused_by_its_key_with_both_sizes() {
    let text = |length: usize| "x".repeat(length);
    let mega = text(1 << 20);
    let many: serde_json::Map<_, _> = (0..2000)
        .map(|i| (format!("key.{i}"), text(100).into()))
        .collect();
    for (json, key, limit) in [
        (
            serde_json::json!({"cluster": "c", "resource": {"a": mega}}),
            "resource: too large: 10485",
            MAX_RESOURCE_BYTES,
        ),
        (
            serde_json::json!({"cluster": "c", "resource": {"service.name": mega}}),
            "resource: too large: 10486",
            MAX_RESOURCE_BYTES,
        ),
        (
            serde_json::json!({"cluster": "c", "resource": {mega.clone(): true}}),
            "resource: too large: 10485",
            MAX_RESOURCE_BYTES,
        ),
        (
            serde_json::json!({"cluster": "c", "resource": many}),
            "resource: too large: 2",
            MAX_RESOURCE_BYTES,
        ),
        (
            serde_json::json!({"cluster": "c", "headers": {"x-a": mega}}),
            "headers: too large: ",
            MAX_HEADER_BYTES,
        ),
        (
            serde_json::json!({"cluster": "c", "headers": {mega.clone(): "a"}}),
            "headers: too large: ",
            MAX_HEADER_BYTES,
        ),
        (
            serde_json::json!({"cluster": "c", "path": format!("/{mega}")}),
            "path: too large: ",
            MAX_HEADER_BYTES,
        ),
        (
            serde_json::json!({"cluster": "c", "authority": mega}),
            "authority: too large: ",
            MAX_HEADER_BYTES,
        ),
        (
            serde_json::json!({ "cluster": mega }),
            "authority: too large: ",
            MAX_HEADER_BYTES,
        ),
    ] {
        let refusal = report(&json).expect_err(key);
        assert!(refusal.starts_with(key), "{key}");
        assert!(refusal.contains(&limit.to_string()), "{key}");
        // A person reads it, and headers may be secrets.
        assert!(refusal.len() < 300, "{key}: {}", refusal.len());
    }
}

/// The largest resource, the largest that a node can tell, and the largest span.
#[test]
fn the_largest_span_has_room_beside_the_largest_resource() {
    // The key, the lengths and the tags take 15 bytes.
    let value = "x".repeat(MAX_RESOURCE_BYTES - 15);
    for (length, fits) in [(value.len(), true), (value.len() + 1, false)] {
        let value = "x".repeat(length);
        let json = serde_json::json!({"cluster": "c", "resource": {"a": value}});
        assert_eq!(report(&json).is_ok(), fits, "{length}");
    }
    let json = serde_json::json!({"cluster": "c", "resource": {"a": value}});
    let told = |_: &[&str]| Some("\u{e9}".repeat(1 << 20));
    let mut exporter = Exporter::new(report(&json).unwrap(), &told);
    let mut attributes = Attributes::new();
    for i in 0..100 {
        attributes.text(&format!("key.{i}"), &[b'x'; 1024]);
    }
    let told = |path: &[&str]| told(path).filter(|_| path != ["metadata", "PROXY_CONFIG"]);
    let report = report(&serde_json::json!({"cluster": "c", "envoy_attributes": true}));
    let of_node = report.unwrap().node_attributes(&told, &|_| false);
    assert_eq!(of_node.attributes().dropped(), 0);
    let parts = [of_node.attributes(), &attributes, &attributes, &attributes];
    let largest = Span {
        attributes: &parts,
        tracestate: &[b'x'; MAX_TRACESTATE],
        name: &[b'x'; 128],
        parent: Some(span(2, &attributes).span_id),
        ..span(1, &attributes)
    };
    exporter.push(&largest, 0);
    let mut collector = Collector::default();
    exporter.on_tick(SECOND, &mut |call| collector.take(call));
    assert_eq!(counts(&mut exporter).get("dropped.queue_full"), None);
    assert!(collector.calls[0].body.len() <= BATCH_BYTES);
    let request = decode(&collector.calls[0], false);
    assert_eq!(request.resource_spans[0].scope_spans[0].spans.len(), 1);
}

#[test]
fn a_service_has_a_name_whatever_the_node_is() {
    type Node = fn(&[&str]) -> Option<String>;
    let nodes: [(Node, &str); 5] = [
        (|_| None, "unknown_service"),
        // As a host tells of what the node does not have.
        (|_| Some(String::new()), "unknown_service"),
        (
            |path| (path == ["cluster"]).then(|| "shop".to_owned()),
            "shop",
        ),
        (
            |path| match path {
                ["cluster"] => Some("shop".to_owned()),
                ["metadata", "LABELS", "app"] => Some("cart".to_owned()),
                _ => Some(String::new()),
            },
            "cart",
        ),
        (
            |path| (path == ["id"]).then(|| "proxy-1".to_owned()),
            "unknown_service",
        ),
    ];
    for (node, name) in nodes {
        let attributes = resource(&ServiceName::Canonical, &[].into(), &node);
        let found = attributes.get("service.name");
        let expected = meshtrace_otlp::ResourceValue::String(name.to_owned());
        assert_eq!(found, Some(&expected));
    }
    let text = |text: &str| meshtrace_otlp::ResourceValue::String(text.to_owned());
    for (configured, name) in [("", "unknown_service"), ("shop", "shop")] {
        let configured = [("service.name".to_owned(), text(configured))].into();
        let attributes = resource(&ServiceName::Auto, &configured, &|_| {
            Some("node".to_owned())
        });
        assert_eq!(attributes.get("service.name"), Some(&text(name)));
    }
}

#[test]
fn the_name_of_a_service_has_a_limit() {
    for (length, fits) in [(0, false), (1, true), (512, true), (513, false)] {
        let json = serde_json::json!({"cluster": "c", "service_name": "x".repeat(length)});
        let told = report(&json);
        assert_eq!(told.is_ok(), fits, "{length}: {told:?}");
        if let Err(refusal) = told {
            assert!(
                refusal.starts_with("service_name: invalid length"),
                "{refusal}"
            );
        }
    }
}

/// What is dropped where nothing else is left to do is counted all the same.
#[test]
fn a_span_that_is_dropped_on_its_way_in_is_handed_over_by_a_tick() {
    let json = serde_json::json!({"cluster": "c", "batch": {"max_spans": 1, "max_queue": 1}});
    let mut exporter = Exporter::new(report(&json).unwrap(), &|_| None);
    let attributes = Attributes::new();
    exporter.push(&span(1, &attributes), 0);
    exporter.push(&span(2, &attributes), 0);
    assert!(exporter.tick_period().is_some());
    assert_eq!(counts(&mut exporter).get("dropped.queue_full"), Some(&1));
}
