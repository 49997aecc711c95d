//! The manifests of `span_attributes`: the attributes are on the sidecar's spans.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::HttpFilter;
use envoy_test_harness::config::{
    Bootstrap, FailurePolicy, HttpConnectionManager, Listener, Route, TrafficDirection, WasmFilter,
};
use envoy_test_harness::each_supported;
use meshtrace_render::{Filter, FilterSetup, Host, IstioVersion, Setup};
use meshtrace_test_support::applied;
use meshtrace_test_support::common::{self, Mesh};
use meshtrace_test_support::tracers::{CASE, Caller, Sinks, Tracer};
use serde_json::Value;

/// The manifests for the version: the WasmPlugin and the Telemetry.
fn manifests(version: IstioVersion) -> [Value; 2] {
    let file = match version {
        IstioVersion::V1_28 => "istio-manifests/wasmplugin/span-attributes-1.28.yaml",
        _ => "istio-manifests/wasmplugin/span-attributes.yaml",
    };
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&common::text(file)).expect("documents");
    documents.try_into().expect("two of them")
}

/// Istio 1.30 and 1.31 take the file for 1.29 too.
#[test]
fn the_manifests_are_what_is_rendered() {
    for version in [IstioVersion::V1_28, IstioVersion::V1_29] {
        let manifests = manifests(version);
        let json = manifests[0]["spec"]["pluginConfig"].to_string();
        let mut setup = Setup::new(Host::Istio(version));
        let filter = FilterSetup::new(Filter::SpanAttributes, json);
        setup.filters.push(filter);
        let rendered = setup.render().expect("manifests").to_yaml();
        let rendered: Vec<Value> = serde_saphyr::from_multiple(&rendered).expect("documents");
        assert_eq!(manifests.as_slice(), rendered, "{version}");
    }
}

#[test]
fn the_attributes_are_on_the_spans() {
    each_supported(|envoy| {
        let version = match envoy.reported_version() {
            version if version.starts_with("1.36") => IstioVersion::V1_28,
            version if version.starts_with("1.37") => IstioVersion::V1_29,
            _ => IstioVersion::V1_31,
        };
        let [plugin, telemetry] = manifests(version);
        let json = plugin["spec"]["pluginConfig"].to_string();
        let filter: HttpFilter =
            WasmFilter::new("span_attributes", common::module("span_attributes"))
                .configuration(json)
                .failure_policy(FailurePolicy::FailOpen)
                .into();
        let tags = telemetry["spec"]["tracing"][0]["customTags"].as_object();
        let tags = tags.expect("tags").iter();
        let sinks = Sinks::start();
        let tracing = Tracer::OpenTelemetry.tracing().expect("a tracer");
        let tracing = tags.fold(tracing, |tracing, (key, value)| {
            tracing.custom_tag(applied::tag(key, value))
        });
        let manager = HttpConnectionManager::new()
            .tracing(tracing)
            .filter(filter)
            .route(Route::prefix("/").cluster("upstream"));
        let listener = Listener::http("inbound", manager).direction(TrafficDirection::Inbound);
        let mesh = Mesh::with(envoy, sinks.connect(Bootstrap::new().listener(listener)));

        let caller = Caller::fresh();
        let request = Request::get("/")
            .header(CASE, "attributes")
            .header("traceparent", caller.fill("00-$T-$S-01"))
            .header("x-user-id", "alice")
            .header("x-tenant-id", "acme");
        mesh.pass(&mut mesh.connect("inbound"), &request);
        let spans = sinks.spans(Tracer::OpenTelemetry, &caller.trace_id, "attributes", 1);
        assert_eq!(spans[0].attribute("user.id"), Some("alice"), "{version}");
        assert_eq!(spans[0].attribute("tenant.id"), Some("acme"), "{version}");
    });
}
