//! A pod with every label, and a gateway with labels.

use std::collections::{BTreeMap, BTreeSet};

use envoy_test_harness::client::Request;
use envoy_test_harness::config::Bootstrap;
use envoy_test_harness::{EnvoyBinary, each_supported};
use meshtrace_test_support::applied::{self, apply_by_priority, listener, manager, merge};
use meshtrace_test_support::common::Mesh;
use meshtrace_test_support::promises;
use meshtrace_test_support::tracers::{CASE, Caller, Reader, Sinks, Tracer};
use serde_json::{Value, json};

use super::{EXT_AUTHZ, LABELS, NATIVE, envoy_filters, of_name};

/// The EnvoyFilters that a pod with these labels takes, in a proxy with this Envoy and tracer.
fn taken(
    labels: &BTreeMap<&str, &str>,
    envoy: &EnvoyBinary,
    tracer: &str,
    image: bool,
) -> Vec<(String, Value)> {
    let mut taken = Vec::new();
    for (path, head, filter) in envoy_filters() {
        // A waypoint's file has none.
        let Some(wanted) = filter["spec"]["workloadSelector"]["labels"].as_object() else {
            continue;
        };
        let selects =
            |(key, value): (&String, &Value)| labels.get(key.as_str()).copied() == value.as_str();
        let mut named = head.envoys().into_iter();
        // What a mesh applies: the files of its tracer and its version, and of two that do the
        // same, one.
        let beside = [tracer, "any", "none"].contains(&head.tracer.as_str());
        let other = path.contains("-upstream") && image != path.contains("-image");
        if wanted.iter().all(selects)
            && beside
            && !other
            && named.any(|one| one.reported_version() == envoy.reported_version())
        {
            taken.push((path, filter));
        }
    }
    taken
}

fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|one| one["name"].as_str()).collect()
}

#[test]
fn a_pod_with_every_label_takes_every_piece_and_they_work_together() {
    let labels: BTreeMap<_, _> = LABELS
        .iter()
        .filter(|(_, key)| !["istio", NATIVE, EXT_AUTHZ].contains(key))
        .map(|(_, key)| (*key, "enabled"))
        .collect();
    assert_eq!(labels.len(), 5);
    let (mut ran, mut joined) = (0, 0);
    each_supported(|envoy| {
        for (tracer, measured, image) in [
            ("otel", Tracer::OpenTelemetry, false),
            ("otel", Tracer::OpenTelemetry, true),
            ("zipkin-b3", Tracer::ZipkinB3, false),
        ] {
            if image && !envoy.is_at_least(1, 39) {
                continue;
            }
            let at = format!("{tracer} on {}", envoy.reported_version());
            let taken = taken(&labels, envoy, tracer, image);
            let keys: BTreeSet<_> = taken
                .iter()
                .filter_map(|(path, _)| of_name(&LABELS, path))
                .collect();
            // Sampling and the access log have no file for Zipkin.
            let expected = if tracer == "otel" { 5 } else { 3 };
            assert_eq!((taken.len(), keys.len()), (expected, expected), "{at}");

            let mut together = manager(tracer);
            merge(
                &mut together["tracing"],
                &json!({
                    "spawn_upstream_span": true,
                    "custom_tags": [{"tag": "case", "request_header": {"name": CASE}}],
                }),
            );
            // The Telemetry that goes with the rules.
            together["tracing"]["random_sampling"] =
                json!({"value": if tracer == "otel" { 0 } else { 100 }});
            let filters: Vec<_> = taken
                .iter()
                .rev()
                .map(|(_, filter)| filter.clone())
                .collect();
            apply_by_priority(&filters, &mut together);
            let early = names(&together["early_header_mutation_extensions"]);
            let http = names(&together["http_filters"]);
            if tracer == "otel" {
                assert_eq!(
                    early,
                    ["meshtrace-trace-context", "meshtrace-route-sampling"],
                    "{at}"
                );
                let first = [
                    "meshtrace.trace_context_downstream",
                    "meshtrace.expose_ids",
                    "meshtrace.access_log_trace",
                ];
                assert_eq!(http[..3], first, "{at}");
            } else {
                assert_eq!(early, ["meshtrace-trace-context"], "{at}");
                assert_eq!(http[0], "meshtrace.trace_context_downstream", "{at}");
            }
            let sinks = Sinks::start();
            let bootstrap = sinks
                .connect(Bootstrap::new())
                .listener(listener("ingress", &together));
            let mesh = Mesh::with(envoy, bootstrap);
            for headers in [
                &["traceparent: 00-$T-$S-01"][..],
                &["b3: $T-$S-1"],
                &["x-b3-traceid: $T", "x-b3-spanid: $S", "x-b3-sampled: 1"],
            ] {
                let caller = Caller::fresh();
                let case = format!("{at} {headers:?}");
                let request = caller.request(&case, headers);
                let seen = mesh.pass(&mut mesh.connect("ingress"), &request);
                let spans = sinks.spans(measured, &caller.trace_id, &case, 2);
                let ids: BTreeSet<_> = spans.iter().map(|span| span.span_id.clone()).collect();
                assert!(
                    spans
                        .iter()
                        .any(|span| span.parent_span_id.as_ref() == Some(&caller.span_id)),
                    "{case}: {spans:?}"
                );
                for reader in [Reader::W3c, Reader::B3Multi] {
                    let told = reader
                        .read(&seen)
                        .unwrap_or_else(|| panic!("{case}: {seen:?}"));
                    assert_eq!(told.trace_id, caller.trace_id, "{case}");
                    assert!(ids.contains(&told.span_id), "{case}: {told:?}");
                    assert_eq!(told.sampled, Some(true), "{case}");
                }
                joined += 1;
                for (name, _) in &seen.headers {
                    let name = String::from_utf8_lossy(name).to_lowercase();
                    let own = [
                        "x-meshtrace-",
                        "x-client-trace-id",
                        "x-active-",
                        "x-envoy-force-trace",
                    ];
                    assert!(
                        !own.iter().any(|own| name.starts_with(own)),
                        "{case}: {name}"
                    );
                }
            }
            let stats = mesh.envoy.stats().expect("the stats");
            let refused = stats
                .iter()
                .find(|(name, value)| name.contains("config_invalid") && **value > 0);
            assert_eq!(refused, None, "{at}");
            ran += 1;
        }
    });
    assert_eq!((ran, joined), (10, 30));
    promises::held(
        "Manifests and examples",
        "A pod can have every label",
        "all EnvoyFilters of a tracer in one proxy, by their priorities, W3C and both shapes of B3 arriving",
        "10 of 10 proxies start (4 versions), one trace in 30 of 30 requests, and none of the pieces' own headers leaves",
    );
}

/// At a gateway the edge is first: what a client sends is gone, and the rules decide about a trace
/// of the gateway's.
#[test]
fn at_a_gateway_with_labels_no_client_decides() {
    const FILES: [&str; 4] = [
        "istio-manifests/envoyfilter/trace-context-otel-upstream.yaml",
        "istio-manifests/envoyfilter/route-sampling-otel.yaml",
        "istio-manifests/envoyfilter/trace-context-otel-early.yaml",
        "istio-manifests/envoyfilter/trace-context-edge.yaml",
    ];
    const PLUGIN: &str = "istio-manifests/wasmplugin/route-sampling-otel.yaml";
    let mut gateway = applied::patched("otel", &[&FILES[..], &[PLUGIN]].concat());
    gateway["tracing"]["random_sampling"] = json!({"value": 0});
    let early = &gateway["early_header_mutation_extensions"];
    let removed = &early[0]["typed_config"]["mutations"][0];
    assert_eq!(*removed, json!({"remove": "traceparent"}));
    assert_eq!(early.as_array().map(Vec::len), Some(3));
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let bootstrap = sinks.connect(Bootstrap::new());
        let mesh = Mesh::with(envoy, bootstrap.listener(listener("ingress", &gateway)));
        for (path, kept) in [("/payments/1", true), ("/health", false)] {
            for line in [
                "traceparent: 00-$T-$S-01",
                "traceparent: 00-$T-$S-00",
                "b3: $T-$S-1",
                "b3: 1",
                "b3: 0",
                "x-b3-sampled: 1",
                "x-client-trace-id: 1",
            ] {
                let caller = Caller::fresh();
                let (name, value) = line.split_once(": ").expect("a header line");
                let request = Request::get(path).header(name, caller.fill(value));
                let seen = mesh.pass(&mut mesh.connect("ingress"), &request);
                let at = format!("{path} {line} on {}", envoy.reported_version());
                for reader in [Reader::W3c, Reader::B3Multi] {
                    let told = reader
                        .read(&seen)
                        .unwrap_or_else(|| panic!("{at}: {seen:?}"));
                    assert_ne!(told.trace_id, caller.trace_id, "{at}");
                    assert_eq!(told.sampled, Some(kept), "{at}");
                }
            }
        }
    });
}
