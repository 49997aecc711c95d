//! `trace_context` beside the Zipkin tracer.

use std::collections::BTreeSet;

use envoy_test_harness::config::{
    FailurePolicy, HttpConnectionManager, TraceContextOption, Tracing,
};
use meshtrace_propagation::Placement;
use meshtrace_test_support::common::{self, Mesh, SPAN, TRACE, envoys, trace_context};
use serde_json::Value;

use super::{OTHER_SPAN, OTHER_TRACE, inbound, leaving, read_and_compile, spans};

fn manifest() -> Value {
    common::yaml("istio-manifests/wasmplugin/trace-context-zipkin.yaml")["spec"].take()
}

/// The tracer as Istio sets it, alone and with the filter of the manifest.
fn meshes() -> impl Iterator<Item = (String, Mesh)> {
    let spec = manifest();
    assert_eq!(spec["failStrategy"], "FAIL_OPEN");
    let json = spec["pluginConfig"].to_string();
    envoys().into_iter().map(move |envoy| {
        let filter = trace_context(&json).failure_policy(FailurePolicy::FailOpen);
        let manager = || {
            let tracing = Tracing::zipkin("collector")
                .trace_context_option(TraceContextOption::B3WithW3c)
                .shared_span_context(false);
            HttpConnectionManager::new().tracing(tracing)
        };
        let managers = vec![("alone", manager()), ("filtered", manager().filter(filter))];
        (
            envoy.reported_version().to_owned(),
            inbound(&envoy, managers),
        )
    })
}

#[test]
fn the_configuration_is_read() {
    let config = read_and_compile(&manifest()["pluginConfig"].to_string());
    assert_eq!(config.placement, Placement::Downstream);
}

#[test]
fn whatever_comes_in_what_leaves_names_one_span() {
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let w3c = [("traceparent", w3c.as_str()), ("tracestate", "a=1")];
    let b3 = format!("{OTHER_TRACE}-{OTHER_SPAN}-1");
    let b3 = [("b3", b3.as_str())];
    let multi = [("x-b3-traceid", OTHER_TRACE), ("x-b3-spanid", OTHER_SPAN)];
    let arrivals: [Vec<_>; 6] = [
        vec![],
        w3c.to_vec(),
        b3.to_vec(),
        multi.to_vec(),
        [&w3c[..], &b3].concat(),
        [&w3c[..], &multi].concat(),
    ];
    for (envoy, mesh) in meshes() {
        for arrival in &arrivals {
            let left = leaving(&mesh, "filtered", arrival);
            assert_eq!(spans(&left).len(), 1, "{envoy}: {arrival:?}: {left:?}");
            let continues_b3 = left.iter().any(|header| header.contains(OTHER_TRACE));
            let b3_came = arrival.iter().any(|(_, value)| value.contains(OTHER_TRACE));
            assert_eq!(continues_b3, b3_came, "{envoy}: {arrival:?}: {left:?}");
        }
    }
}

#[test]
fn a_single_b3_is_stale_behind_the_tracer_before_1_40_and_not_with_the_filter() {
    let b3 = format!("{OTHER_TRACE}-{OTHER_SPAN}-1");
    for (envoy, mesh) in meshes() {
        let alone = leaving(&mesh, "alone", &[("b3", &b3)]);
        let told = if envoy.starts_with("1.40") { 1 } else { 2 };
        assert_eq!(spans(&alone).len(), told, "{envoy}: {alone:?}");
        let filtered = leaving(&mesh, "filtered", &[("b3", &b3)]);
        assert_eq!(spans(&filtered).len(), 1, "{envoy}: {filtered:?}");
    }
}

#[test]
fn the_tracestate_of_another_trace_does_not_leave() {
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let arrival = [
        ("traceparent", w3c.as_str()),
        ("tracestate", "a=1"),
        ("x-b3-traceid", OTHER_TRACE),
        ("x-b3-spanid", OTHER_SPAN),
    ];
    for (envoy, mesh) in meshes() {
        let has_state = |listener| {
            let left = leaving(&mesh, listener, &arrival);
            left.contains(&"tracestate: a=1".to_owned())
        };
        assert!(has_state("alone"), "{envoy}");
        assert!(!has_state("filtered"), "{envoy}");
    }
}

#[test]
fn malformed_b3_does_not_leave_and_a_good_traceparent_does() {
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let malformed = [
        vec![("b3", "hello")],
        vec![("x-b3-spanid", OTHER_SPAN), ("x-b3-traceid", "hello")],
    ];
    let lines = |headers: &[(&str, &str)]| {
        let lines = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}"));
        lines.collect::<BTreeSet<_>>()
    };
    for (envoy, mesh) in meshes() {
        for b3 in &malformed {
            let good = [("traceparent", w3c.as_str())];
            for (arrival, kept) in [(b3.clone(), &good[..0]), ([b3, &good[..]].concat(), &good)] {
                let left = |listener| BTreeSet::from_iter(leaving(&mesh, listener, &arrival));
                assert_eq!(left("alone"), lines(&arrival), "{envoy}");
                assert_eq!(left("filtered"), lines(kept), "{envoy}");
            }
        }
    }
}
