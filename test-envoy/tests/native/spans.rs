//! What a span says of a request.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::Reply;
use envoy_test_harness::{Span, SpanKind};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::host::Host;
use meshtrace_test_support::native::{envoys, export, manager, options, start, tracing};
use meshtrace_test_support::reporting::{Collected, attributes, reporting, traceparent};
use serde_json::json;

fn sampled(path: &str) -> Request {
    Request::get(path).header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
}

/// The one span that arrived, which is then forgotten.
fn only(mesh: &Collected) -> Span {
    let mut spans = mesh.sink.wait_for_spans(1).expect("a span");
    assert_eq!(spans.len(), 1, "{spans:#?}");
    mesh.sink.clear();
    spans.remove(0)
}

/// OpenTelemetry's names, and what Envoy tells besides.
#[test]
fn a_proxied_request_is_a_server_span_with_every_attribute() {
    for envoy in envoys() {
        for protocol in ["http/protobuf", "grpc"] {
            let version = envoy.reported_version();
            let config = reporting(protocol, "{}");
            let mesh = start(&envoy, protocol, manager(tracing(config)));
            mesh.upstream.respond_with(|_| {
                Reply::ok()
                    .body("hi")
                    .delay(std::time::Duration::from_millis(20))
            });
            let id = "7f5c4d5c-0b5c-9f5c-8f5c-7f5c4d5c0b5c";
            let request = Request::post("/cart/7?user=secret", "hello")
                .header("host", "shop.example.com:8443")
                .header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
                .header("tracestate", "vendor=1")
                .header("user-agent", "test/\u{e9}1.0")
                .header("x-request-id", id)
                // Envoy tells a tracer the peer of the connection.
                .header("x-forwarded-for", "192.0.2.7");
            assert_eq!(mesh.send(&request).status, 200, "{version}");

            let span = only(&mesh);
            let left = traceparent(&mesh.upstream.take().remove(0));
            assert_eq!(left, [TRACE, &span.span_id, "01"], "{version}");
            assert_eq!(span.trace_id, TRACE, "{version}");
            assert_eq!(span.parent_span_id.as_deref(), Some(SPAN), "{version}");
            assert_eq!(span.kind, SpanKind::Server, "{version}");
            assert_eq!(span.name, "POST", "{version}");
            assert_eq!(span.trace_state, "vendor=1", "{version}");
            assert!(!span.status_error, "{version}");
            let duration = span.end_unix_nanos - span.start_unix_nanos;
            assert!(duration >= 20_000_000, "{version}: {duration}");
            let mut found = span.attributes.clone();
            // Which request ids Envoy marks as sampled is its own affair.
            let request_ids = [
                found.remove("guid:x-request-id"),
                found.remove("http.request.header.x-request-id"),
            ];
            assert!(request_ids.iter().flatten().count() == 2, "{version}");
            let expected = attributes(&[
                ("client.address", "127.0.0.1"),
                ("component", "proxy"),
                ("http.request.body.size", "5"),
                ("http.request.method", "POST"),
                ("http.response.body.size", "2"),
                ("http.response.status_code", "200"),
                ("network.protocol.version", "1.1"),
                ("node_id", "test"),
                ("server.address", "shop.example.com"),
                ("server.port", "8443"),
                ("upstream_cluster", "upstream"),
                ("upstream_cluster.name", "upstream"),
                ("url.path", "/cart/7"),
                ("url.scheme", "http"),
                ("user_agent.original", "test/\u{e9}1.0"),
            ]);
            assert_eq!(found, expected, "{version}");
            let expected = attributes(&[
                ("service.instance.id", "test"),
                ("service.name", "test"),
                ("telemetry.sdk.language", "rust"),
                ("telemetry.sdk.name", "meshtrace"),
                ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
            ]);
            assert_eq!(span.resource, expected, "{version}");
            mesh.wait_for_counter("report.exported", 1);
            assert_eq!(mesh.counter("panics"), 0, "{version}");
        }
    }
}

#[test]
fn what_envoy_answers_itself_is_a_span_too() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/direct").direct_response(404, "no"))
            .route(Route::prefix("/away").redirect("/there"))
            .route(Route::prefix("/down").cluster("down"))
            .route(Route::prefix("/up").cluster("upstream"))
            .filter(export())
            .tracing(tracing(reporting("http/protobuf", "{}")));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1(
                "down",
                "127.0.0.1:1".parse().expect("an address"),
            ));
        let options = options();
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options);
        for (path, status, flags, is_error) in [
            ("/direct", 404, None, false),
            ("/away", 301, None, false),
            ("/nothing", 404, Some("NR"), false),
            ("/down", 503, Some("UF"), true),
            ("/up", 200, None, false),
        ] {
            assert_eq!(
                mesh.send(&sampled(path)).status,
                status,
                "{version}: {path}"
            );
            let span = only(&mesh);
            assert_eq!(span.kind, SpanKind::Server, "{version}: {path}");
            assert_eq!(span.parent_span_id.as_deref(), Some(SPAN));
            let code = span.attribute("http.response.status_code");
            assert_eq!(code, Some(&*status.to_string()), "{version}: {path}");
            assert_eq!(span.attribute("response_flags"), flags, "{version}: {path}");
            assert_eq!(span.status_error, is_error, "{version}: {path}: {span:#?}");
        }
    }
}

#[test]
fn attributes_and_custom_tags_are_on_every_span() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let config = json!({
            "span_attributes": {
                "attributes": [
                    {"key": "user.id", "from": {"header": "x-user-id"}},
                    {"key": "session", "from": {"cookie": "sid"}},
                    {"key": "order", "from": {"path": "/orders/{id}", "capture": "id"}},
                    {"key": "page", "from": {"query": "page"}},
                    {"key": "tier", "from": {"baggage": "tier"}},
                    {"key": "team", "from": {"literal": "shop"}},
                ],
                "emit": {"request_header_prefix": "x-span-attr-", "baggage": true},
            },
            "report": {"cluster": "collector"},
        });
        let tracing = tracing(config)
            .request_header_tag("release", "x-release")
            // The span says it already.
            .request_header_tag("user.id", "x-release")
            .request_header_tag("http.response.status_code", "x-release")
            .spawn_upstream_span(true);
        let mesh = start(&envoy, "http/protobuf", manager(tracing));
        let request = sampled("/orders/7?page=2")
            .header("x-user-id", "ann")
            .header("cookie", "a=b; sid=s1")
            .header("baggage", "tier=gold")
            .header("x-release", "r9");
        assert_eq!(mesh.send(&request).status, 200, "{version}");
        let spans = mesh.sink.wait_for_spans(2).expect("two spans");
        for span in &spans {
            let expected = [
                ("user.id", "ann"),
                ("session", "s1"),
                ("order", "7"),
                ("page", "2"),
                ("tier", "gold"),
                ("team", "shop"),
                ("http.response.status_code", "200"),
            ];
            for (key, value) in expected {
                assert_eq!(span.attribute(key), Some(value), "{version}: {span:#?}");
            }
        }
        let server = spans.iter().find(|span| span.kind == SpanKind::Server);
        let server = server.expect("a SERVER span");
        assert_eq!(server.attribute("release"), Some("r9"), "{version}");
        assert_eq!(server.name, "GET /orders/{id}", "{version}");
        let left = mesh.upstream.take().remove(0);
        assert_eq!(
            left.header_text("x-span-attr-user-id").as_deref(),
            Some("ann")
        );
        let baggage = left.header_text("baggage").expect("baggage");
        assert!(
            baggage.contains("tier=gold") && baggage.contains("user.id=ann"),
            "{baggage}"
        );
    }
}

/// An internal redirect is one trace: the second request is the child of what the first was told.
#[test]
fn an_internal_redirect_stays_in_the_trace() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/").cluster("upstream").merge(json!({
                "route": {"internal_redirect_policy": {"allow_cross_scheme_redirect": true}}
            })))
            .filter(export())
            .tracing(tracing(reporting("http/protobuf", "{}")).spawn_upstream_span(true));
        let mesh = start(&envoy, "http/protobuf", manager);
        mesh.upstream.respond_with(|request| match &*request.path {
            "/first" => Reply::status(302).header("location", "http://test/second"),
            _ => Reply::ok(),
        });
        assert_eq!(mesh.send(&sampled("/first")).status, 200, "{version}");
        let spans = mesh.sink.wait_for_spans(4).expect("four spans");
        assert!(
            spans.iter().all(|span| span.trace_id == TRACE),
            "{spans:#?}"
        );
        let mut known: Vec<_> = spans.iter().map(|span| span.span_id.as_str()).collect();
        known.push(SPAN);
        for span in &spans {
            let parent = span.parent_span_id.as_deref().expect("a parent");
            assert!(known.contains(&parent), "{version}: {spans:#?}");
        }
    }
}
