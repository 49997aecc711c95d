//! `trace_context` as an upstream filter, behind the OpenTelemetry tracer.

use envoy_test_harness::config::{HttpConnectionManager, Tracing};
use envoy_test_harness::each_supported;
use meshtrace_propagation::Placement;
use meshtrace_test_support::common::{self, SPAN, TRACE};
use serde_json::{Value, json};

use super::{OTHER_SPAN, OTHER_TRACE, inbound, leaving, read_and_compile, spans};

/// The router that the EnvoyFilter makes of Istio's, which has no configuration of its own there.
fn router() -> Value {
    let mut manifest = common::yaml("istio-manifests/envoyfilter/trace-context-otel-upstream.yaml");
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
    let text =
        router()["upstream_http_filters"][0]["typed_config"]["config"]["configuration"]["value"]
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
    each_supported(|envoy| {
        let manager = || {
            let tracing = Tracing::opentelemetry_grpc("collector", "sidecar");
            HttpConnectionManager::new().tracing(tracing)
        };
        let patched = manager().router(router.clone());
        let mesh = inbound(envoy, vec![("alone", manager()), ("patched", patched)]);
        let arrival = [("traceparent", w3c.as_str()), ("b3", stale.as_str())];

        let alone = leaving(&mesh, "alone", &arrival);
        assert_eq!(spans(&alone).len(), 2, "{alone:?}");
        let patched = leaving(&mesh, "patched", &arrival);
        assert_eq!(spans(&patched).len(), 1, "{patched:?}");
        assert!(patched.contains(&format!("x-b3-traceid: {TRACE}")));
        assert!(!patched.contains(&format!("x-b3-spanid: {SPAN}")));
    });
}
