//! The Istio manifests: their plugin configuration in real Envoys, beside the tracers that they are for.

mod common;

use std::collections::BTreeSet;

use common::{Mesh, SPAN, TRACE, get, trace_context, trace_headers};
use envoy_test_harness::EnvoyBinary;
use envoy_test_harness::config::{
    Bootstrap, Cluster, FailurePolicy, HttpConnectionManager, Listener, Route, TraceContextOption,
    Tracing, TrafficDirection,
};
use envoy_test_harness::upstream::ClosedPort;
use meshtrace_config::read;
use meshtrace_propagation::{Placement, Propagation, TraceContextConfig};
use serde_json::{Value, json};

const OTHER_TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
const OTHER_SPAN: &str = "e457b5a2e4d86bd1";

fn envoys() -> Vec<EnvoyBinary> {
    EnvoyBinary::all_supported().expect("the supported Envoys")
}

/// The configuration as the filter reads it.
fn read_and_compile(json: &str) -> TraceContextConfig {
    let config: TraceContextConfig = read(json.as_bytes()).expect("a configuration");
    Propagation::new(&config).expect("one that compiles");
    config
}

/// Starts one listener, as a sidecar has it for what comes in.
fn inbound(envoy: &EnvoyBinary, managers: Vec<(&str, HttpConnectionManager)>) -> Mesh {
    let collector = ClosedPort::reserve().expect("a port");
    let bootstrap = Bootstrap::new().cluster(Cluster::http2("collector", collector.address()));
    let bootstrap = managers
        .into_iter()
        .fold(bootstrap, |bootstrap, (name, manager)| {
            let manager = manager.route(Route::prefix("/").cluster("upstream"));
            let listener = Listener::http(name, manager).direction(TrafficDirection::Inbound);
            bootstrap.listener(listener)
        });
    Mesh::with(envoy, bootstrap)
}

fn leaving(mesh: &Mesh, listener: &str, headers: &[(&str, &str)]) -> Vec<String> {
    trace_headers(&mesh.pass(&mut mesh.connect(listener), &get(headers)))
}

/// The traces and spans that the headers name, in any format.
fn spans(headers: &[String]) -> BTreeSet<String> {
    let value = |name: &str| {
        let line = headers.iter().find_map(|header| header.strip_prefix(name));
        line.and_then(|rest| rest.strip_prefix(": "))
    };
    let pair = |text: &str| text.split('-').take(2).collect::<Vec<_>>().join("-");
    let multi = value("x-b3-traceid").zip(value("x-b3-spanid"));
    let named = [
        value("traceparent").map(|text| pair(text.trim_start_matches("00-"))),
        value("b3").map(pair),
        multi.map(|(trace, span)| format!("{trace}-{span}")),
    ];
    named.into_iter().flatten().collect()
}

mod beside_the_zipkin_tracer {
    use super::*;

    fn manifest() -> Value {
        common::yaml("istio-manifests/wasmplugin/trace-context.yaml")["spec"].take()
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
                for (arrival, kept) in [(b3.clone(), &good[..0]), ([b3, &good[..]].concat(), &good)]
                {
                    let left = |listener| BTreeSet::from_iter(leaving(&mesh, listener, &arrival));
                    assert_eq!(left("alone"), lines(&arrival), "{envoy}");
                    assert_eq!(left("filtered"), lines(kept), "{envoy}");
                }
            }
        }
    }
}

mod behind_the_opentelemetry_tracer {
    use super::*;

    /// The router that the EnvoyFilter makes of Istio's, which has no configuration of its own there.
    fn router() -> Value {
        let mut manifest = common::yaml("istio-manifests/envoyfilter/trace-context-upstream.yaml");
        let patch = &mut manifest["spec"]["configPatches"][0];
        assert_eq!(patch["applyTo"], "HTTP_FILTER");
        assert_eq!(patch["patch"]["operation"], "MERGE");
        let matched = "/match/listener/filterChain/filter/subFilter/name";
        assert_eq!(
            patch.pointer(matched),
            Some(&patch["patch"]["value"]["name"])
        );
        patch["patch"]["value"]["typed_config"].take()
    }

    #[test]
    fn the_configuration_is_read() {
        let text = router()["upstream_http_filters"][0]["typed_config"]["config"]["configuration"]
            ["value"]
            .take();
        let config = read_and_compile(text.as_str().expect("text"));
        assert_eq!(config.placement, Placement::Upstream);
    }

    #[test]
    fn the_patch_adds_b3_that_names_the_tracers_span() {
        let mut router = router();
        let module = "/upstream_http_filters/0/typed_config/config/vm_config/code/local/filename";
        *router.pointer_mut(module).expect("the module's path") =
            json!(common::module("trace_context"));
        let w3c = format!("00-{TRACE}-{SPAN}-01");
        let stale = format!("{OTHER_TRACE}-{OTHER_SPAN}-0");
        for envoy in envoys() {
            let manager = || {
                let tracing = Tracing::opentelemetry_grpc("collector", "sidecar");
                HttpConnectionManager::new().tracing(tracing)
            };
            let patched = manager().router(router.clone());
            let mesh = inbound(&envoy, vec![("alone", manager()), ("patched", patched)]);
            let arrival = [("traceparent", w3c.as_str()), ("b3", stale.as_str())];

            let alone = leaving(&mesh, "alone", &arrival);
            assert_eq!(spans(&alone).len(), 2, "{alone:?}");
            let patched = leaving(&mesh, "patched", &arrival);
            assert_eq!(spans(&patched).len(), 1, "{patched:?}");
            assert!(patched.contains(&format!("x-b3-traceid: {TRACE}")));
            assert!(!patched.contains(&format!("x-b3-spanid: {SPAN}")));
        }
    }
}
