//! Every condition of a rule that both hosts know.

use std::time::Duration;

use envoy_test_harness::client::Request;
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::host::each_host;
use meshtrace_test_support::reporting::{Collected, traceparent};
use serde_json::json;

use super::config;

/// Sends a request, and tells whether the upstream was told that it is recorded.
fn is_told(mesh: &Collected, request: &Request) -> bool {
    mesh.upstream.take();
    mesh.send(request);
    traceparent(&mesh.upstream.take().remove(0))[2] == "01"
}

fn with_parent(path: &str, flags: &str) -> Request {
    Request::get(path).header("traceparent", format!("00-{TRACE}-{SPAN}-{flags}"))
}

#[test]
fn rules_decide_for_this_hop_and_for_what_it_tells() {
    each_host(|host, envoy, version| {
        let rules = json!({
            "rules": [
                {"name": "payments", "match": {"path": {"prefix": "/pay"}}, "sample": "always"},
                {"name": "gold", "match": {"headers": [{"name": "x-tier", "exact": "gold"}]}, "sample": "always"},
                {"name": "health", "match": {"path": {"exact": "/health"}}, "sample": "never"},
                {"name": "posts", "match": {"methods": ["POST"], "host": "shop.example"}, "sample": {"ratio": 1.0}},
                {"name": "few", "match": {"path": {"template": "/items/{id}"}}, "sample": {"per_second": 1}},
            ],
            "default": "never",
        });
        let mesh = host.start(envoy, config(rules, json!({"keep": {"errors": false}})));
        let mut expected = Vec::new();
        for (request, is_sampled) in [
            (Request::get("/pay/1"), true),
            (Request::get("/health"), false),
            (Request::get("/other"), false),
            (Request::get("/other").header("x-tier", "gold"), true),
            (
                Request::post("/other", "").header("host", "shop.example"),
                true,
            ),
            (Request::get("/items/7"), true),
            (Request::get("/items/8"), false),
            // A decision that comes in stands.
            (with_parent("/pay/1", "00"), false),
            (with_parent("/health", "01"), true),
        ] {
            assert_eq!(
                is_told(&mesh, &request),
                is_sampled,
                "{version}: {request:?}"
            );
            if is_sampled {
                expected.push(request);
            }
        }
        let spans = mesh.sink.wait_for_spans(expected.len()).expect("the spans");
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(mesh.sink.spans().len(), expected.len(), "{version}");
        let of_template = spans.iter().find(|span| span.name == "GET /items/{id}");
        let route = of_template.and_then(|span| span.attribute("http.route"));
        assert_eq!(route, Some("/items/{id}"), "{version}: {spans:#?}");
        let rule = |name: &str| mesh.counter(&format!("route_sampling.rule.{name}"));
        assert_eq!(rule("payments.sampled"), 1, "{version}");
        assert_eq!(rule("few.dropped"), 1, "{version}");
    });
}
