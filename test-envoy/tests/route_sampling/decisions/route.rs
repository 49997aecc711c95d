//! A route's own sampling, with the filter's decision and without the filter.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Listener, Route};
use envoy_test_harness::each_supported;
use meshtrace_render::{Tracer as RenderTracer, sampling_settings};
use meshtrace_sampling::SamplingConfig;
use meshtrace_test_support::common::{self, Mesh};
use meshtrace_test_support::sampling::around;
use meshtrace_test_support::tracers::{CASE, Sinks, Tracer};
use serde_json::json;

use super::{TENTH, config, sampling, to_upstream, told};

#[test]
fn rules_of_a_route_alone_need_no_filter_and_respect_a_parent() {
    let tracer = Tracer::OpenTelemetry;
    let json = config(
        tracer,
        r#""rules": [
            {"match": {"route": "pay"}, "sample": "always"},
            {"match": {"route": "probe"}, "sample": "never"}
        ]"#,
    );
    let parsed: SamplingConfig = meshtrace_config::read(json.as_bytes()).expect("a configuration");
    let settings = sampling_settings(&parsed, RenderTracer::OpenTelemetry).expect("settings");
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let manager = settings
            .routes
            .iter()
            .fold(around(tracer, &json), |manager, block| {
                let path = format!("/{}", block.route);
                let route = Route::prefix(&path).cluster("upstream").name(&block.route);
                manager.route(route.tracing(block.tracing.clone()))
            });
        let listener = Listener::http("ingress", to_upstream(manager));
        let mesh = Mesh::with(envoy, sinks.connect(Bootstrap::new()).listener(listener));
        for (path, parent, expected) in [
            ("/pay", None, true),
            ("/probe", None, false),
            ("/other", None, false),
            ("/pay", Some("00"), false),
            ("/probe", Some("01"), true),
        ] {
            let mut request = Request::get(path).header(CASE, path);
            if let Some(flags) = parent {
                let parent = format!("00-{}-{}-{flags}", common::TRACE, common::SPAN);
                request = request.header("traceparent", parent);
            }
            let seen = mesh.pass(&mut mesh.connect("ingress"), &request);
            let what = format!("{path} {parent:?} on {}", envoy.reported_version());
            assert_eq!(told(tracer, &seen).1, expected, "{what}");
        }
    });
}

/// Any other header reaches the tracer by a route that asks for it.
#[test]
fn a_route_may_follow_the_decision_by_a_header_of_its_own() {
    let tracer = Tracer::OpenTelemetry;
    let json = config(tracer, &format!(r#""request_header": "x-keep", {TENTH}"#));
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let full = json!({"random_sampling": {"numerator": 100}});
        let kept = Route::prefix("/")
            .header("x-keep", "true")
            .cluster("upstream");
        let manager = sampling(tracer, &json).route(kept.tracing(full));
        let listener = Listener::http("ingress", to_upstream(manager));
        let mesh = Mesh::with(envoy, sinks.connect(Bootstrap::new()).listener(listener));
        for (path, expected) in [("/payments", true), ("/health", false)] {
            let request = Request::get(path).header(CASE, path);
            let seen = mesh.pass(&mut mesh.connect("ingress"), &request);
            let what = format!("{path} on {}", envoy.reported_version());
            let (trace_id, sampled) = told(tracer, &seen);
            assert_eq!(sampled, expected, "{what}");
            assert_eq!(seen.header_text("x-keep"), None, "{what}");
            if expected {
                assert_eq!(sinks.spans(tracer, &trace_id, path, 1).len(), 1, "{what}");
            }
        }
    });
}
