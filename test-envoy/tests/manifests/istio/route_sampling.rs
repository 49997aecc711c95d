//! The manifests around `route_sampling`.

use envoy_test_harness::config::{FailurePolicy, HttpConnectionManager, Tracing, WasmFilter};
use envoy_test_harness::each_supported;
use meshtrace_config::read;
use meshtrace_sampling::{RuleSampler, SamplingConfig};
use meshtrace_test_support::common::{self, SPAN, TRACE};
use meshtrace_test_support::rendered;

use super::inbound;

const SETTINGS: &str = "istio-manifests/envoyfilter/route-sampling-otel.yaml";
const PLUGIN: &str = "istio-manifests/wasmplugin/route-sampling-otel.yaml";
const TELEMETRY: &str = "istio-manifests/telemetry/route-sampling.yaml";

fn plugin_config() -> String {
    let spec = common::yaml(PLUGIN)["spec"].take();
    assert_eq!(spec["failStrategy"], "FAIL_OPEN");
    spec["pluginConfig"].to_string()
}

#[test]
fn the_settings_are_what_is_rendered_and_all_three_are_for_the_same_pods() {
    let config: SamplingConfig = read(plugin_config().as_bytes()).expect("a configuration");
    RuleSampler::new(&config, &|_| None).expect("one that compiles");
    let settings = rendered::sampling_settings_in(SETTINGS, &plugin_config());
    if std::env::var_os("UPDATE_EXAMPLES").is_some() {
        return;
    }
    let label = ("meshtrace-sampling", "enabled");
    let rendered = settings.to_envoy_filter("route-sampling-otel", label);
    assert_eq!(common::yaml(SETTINGS), rendered);
    for path in [PLUGIN, TELEMETRY] {
        let labels = &common::yaml(path)["spec"]["selector"]["matchLabels"];
        assert_eq!(labels[label.0], label.1, "{path}");
    }
    let tracing = &common::yaml(TELEMETRY)["spec"]["tracing"][0];
    assert_eq!(tracing["randomSamplingPercentage"], 0);
}

/// The settings of the files on a connection manager, with the percentage that the Telemetry has.
#[test]
fn together_they_decide_by_rule_and_respect_a_parent() {
    let manifest = common::yaml(SETTINGS);
    let patch = |i: usize| manifest["spec"]["configPatches"][i]["patch"]["value"].clone();
    let mut manager_patch = patch(0)["typed_config"].take();
    if let Some(fields) = manager_patch.as_object_mut() {
        fields.remove("@type");
    }
    let percentage =
        common::yaml(TELEMETRY)["spec"]["tracing"][0]["randomSamplingPercentage"].as_f64();
    let module = common::module("route_sampling");
    each_supported(|envoy| {
        let filter = WasmFilter::new("route_sampling", &module)
            .configuration(plugin_config())
            .failure_policy(FailurePolicy::FailOpen);
        let tracing = Tracing::opentelemetry_grpc("collector", "sidecar");
        let manager = HttpConnectionManager::new()
            .tracing(tracing.random_sampling(percentage.expect("a number")))
            .virtual_host(patch(1))
            .merge(manager_patch.clone())
            .filter(filter);
        let mesh = inbound(envoy, vec![("ingress", manager)]);
        let w3c = |flags: &str| format!("00-{TRACE}-{SPAN}-{flags}");
        for (path, parent, flags) in [
            ("/payments/1", None, "-01"),
            ("/health", None, "-00"),
            ("/metrics", None, "-00"),
            ("/livez/ping?verbose", None, "-00"),
            ("/readyz", None, "-00"),
            ("/startupz", None, "-00"),
            ("/grpc.health.v1.Health/Check", None, "-00"),
            ("/health", Some(w3c("01")), "-01"),
            ("/payments", Some(w3c("00")), "-00"),
        ] {
            let mut request = envoy_test_harness::client::Request::get(path);
            if let Some(parent) = &parent {
                request = request.header("traceparent", parent);
            }
            let seen = mesh.pass(&mut mesh.connect("ingress"), &request);
            let told = seen.header_text("traceparent").expect("a context");
            let version = envoy.reported_version();
            assert!(
                told.ends_with(flags),
                "{path} {parent:?} on {version}: {told}"
            );
            assert_eq!(seen.header_text("x-envoy-force-trace"), None, "{version}");
        }
    });
}
