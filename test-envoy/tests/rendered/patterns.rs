//! Patterns of an early header mutation, in Envoy's own engine (RE2).

use envoy_test_harness::client::Request;
use envoy_test_harness::config::Bootstrap;
use envoy_test_harness::each_supported;
use meshtrace_render::{Filter, ProxyTracer, Tracer};
use meshtrace_test_support::applied;
use meshtrace_test_support::common::{Mesh, SPAN, TRACE};
use meshtrace_test_support::tracers::{Reader, Sinks};
use serde_json::json;

use super::{manager, render, setup};

/// Every character of a template that has a meaning in a pattern.
const TEMPLATE: &str = "/^a.+()/[|]$/{id}/*/**";

#[test]
fn a_template_with_signs_of_patterns_fits_what_the_filter_fits() {
    let mut tried = 0;
    each_supported(|envoy| {
        let sinks = Sinks::start();
        let config = json!({
            "parent": "ignore",
            "rules": [
                {"match": {"path": {"template": TEMPLATE}}, "sample": "always"},
                {"match": {"host": "*.shop.example"}, "sample": "always"},
            ],
            "default": "never",
        });
        let config = config.to_string();
        let tracer = ProxyTracer::Some(Tracer::OpenTelemetry);
        let setup = setup(envoy, tracer, &[(Filter::RouteSampling, &config)]);
        let manager = manager("otel", &render(&setup));
        let bootstrap = sinks.connect(Bootstrap::new());
        let mesh = Mesh::with(
            envoy,
            bootstrap.listener(applied::listener("ingress", &manager)),
        );
        let mut connection = mesh.connect("ingress");
        for (path, host, fits) in [
            ("/^a.+()/[|]$/1/2/3", "h", true),
            ("/^a.+()/[|]$/1/2", "h", true),
            ("/^a.+()/[|]$/1", "h", false),
            ("/^aaa()/[|]$/1/2/3", "h", false),
            ("/a.+()/[|]$/1/2/3", "h", false),
            ("/^a.+()/|$/1/2/3", "h", false),
            ("/^a.+()/[|]$/*/**", "h", true),
            ("/", "x.shop.example:80", true),
            ("/", "x.shop-example", false),
        ] {
            let request = Request::get(path)
                .header("host", host)
                .header("traceparent", format!("00-{TRACE}-{SPAN}-01"));
            let seen = mesh.pass(&mut connection, &request);
            let told = Reader::W3c.read(&seen).expect("a context");
            let label = format!("{path} {host} on {}", envoy.reported_version());
            assert_eq!(
                (&*told.trace_id, told.sampled),
                (TRACE, Some(fits)),
                "{label}"
            );
            tried += 1;
        }
    });
    assert_eq!(tried, 4 * 9);
}
