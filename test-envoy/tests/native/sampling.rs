//! The rules, and what is kept although they say no.

use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::upstream::Reply;
use envoy_test_harness::{EnvoyBinary, Options, SpanKind};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::native::{counter, envoys, manager, options, start, tracing};
use meshtrace_test_support::reporting::{Collected, traceparent};
use serde_json::{Value, json};

fn with_rules(binary: &EnvoyBinary, sampling: Value, keep: Value) -> Collected {
    let config = json!({
        "sampling": sampling,
        "report": {"cluster": "collector", "keep": keep},
    });
    start(binary, "http/protobuf", manager(tracing(config)))
}

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
    for envoy in envoys() {
        let version = envoy.reported_version();
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
        let mesh = with_rules(&envoy, rules, json!({"errors": false}));
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
        let rule = |name: &str| counter(&mesh, &format!("route_sampling.rule.{name}"));
        assert_eq!(rule("payments.sampled"), 1, "{version}");
        assert_eq!(rule("few.dropped"), 1, "{version}");
    }
}

#[test]
fn a_ratio_decides_alike_for_one_trace_and_is_told_in_tracestate() {
    for envoy in envoys() {
        let rules = json!({"default": {"ratio": 0.5}, "parent": "ignore"});
        let mesh = with_rules(&envoy, rules, json!({"errors": false}));
        for (low, is_kept) in [("ffffffffffffff", true), ("00000000000001", false)] {
            let trace = format!("000000000000000001{low}");
            let request = Request::get("/").header("traceparent", format!("00-{trace}-{SPAN}-01"));
            for _ in 0..3 {
                assert_eq!(is_told(&mesh, &request), is_kept, "{low}");
            }
        }
        mesh.upstream.take();
        let request = Request::get("/").header(
            "traceparent",
            format!("00-000000000000000001ffffffffffffff-{SPAN}-01"),
        );
        mesh.send(&request);
        let list = mesh.upstream.take().remove(0).header_text("tracestate");
        assert_eq!(list.as_deref(), Some("ot=th:8"));
    }
}

#[test]
fn whoever_has_the_secret_forces_a_trace_and_the_secret_goes_no_further() {
    for envoy in envoys() {
        let config = json!({
            "sampling": {"default": "never", "force": {"header": "x-force", "value_env": "FORCE"}},
            "report": {"cluster": "collector"},
        });
        let options: Options = options().env("FORCE", "secret");
        let bootstrap = envoy_test_harness::config::Bootstrap::new().listener(
            envoy_test_harness::config::Listener::http("ingress", manager(tracing(config))),
        );
        let mesh = Collected::with_options(&envoy, "http/protobuf", bootstrap, options);
        for (value, is_forced) in [("secret", true), ("guess", false)] {
            mesh.upstream.take();
            mesh.send(&Request::get("/").header("x-force", value));
            let left = mesh.upstream.take().remove(0);
            assert_eq!(traceparent(&left)[2] == "01", is_forced, "{value}");
            assert_eq!(left.header("x-force"), None);
        }
    }
}

#[test]
fn failures_and_slow_requests_are_kept_with_their_attempts_and_a_never_is_not() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let config = json!({
            "sampling": {
                "rules": [{"match": {"path": {"prefix": "/health"}}, "sample": "never"}],
                "default": {"ratio": 0},
            },
            "report": {
                "cluster": "collector",
                "keep": {"errors": true, "slower_than_ms": 200},
            },
        });
        let tracing = tracing(config).spawn_upstream_span(true);
        let mesh = start(&envoy, "http/protobuf", manager(tracing));
        mesh.upstream.respond_with(|request| match &*request.path {
            "/broken" | "/health" => Reply::status(500),
            "/slow" => Reply::ok().delay(Duration::from_millis(300)),
            _ => Reply::ok(),
        });
        for path in ["/fine", "/broken", "/health", "/slow", "/direct"] {
            mesh.send(&Request::get(path));
        }
        mesh.sink.wait_for_spans(4).expect("the spans");
        std::thread::sleep(Duration::from_millis(200));
        let spans = mesh.sink.spans();
        assert_eq!(spans.len(), 4, "{version}: {spans:#?}");
        for (path, reason) in [("/broken", "error"), ("/slow", "slow")] {
            let server = spans.iter().find(|span| {
                span.kind == SpanKind::Server && span.attribute("url.path") == Some(path)
            });
            let server = server.unwrap_or_else(|| panic!("{version}: {spans:#?}"));
            assert_eq!(server.attribute("meshtrace.kept"), Some(reason));
            let client = spans.iter().find(|span| span.is_child_of(server));
            let client = client.unwrap_or_else(|| panic!("{version}: {spans:#?}"));
            assert_eq!(client.attribute("meshtrace.kept"), None);
            assert_eq!(server.status_error, reason == "error");
        }
        assert_eq!(counter(&mesh, "report.kept"), 2, "{version}");
    }
}
