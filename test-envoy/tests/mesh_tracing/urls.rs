//! The URL of a request as it came in, whatever the client sends beside it.
//!
//! RFC 3986 decides what is a port.

use envoy_test_harness::SpanKind;
use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::Reply;
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::host::each_host;
use meshtrace_test_support::promises;
use serde_json::json;

/// Headers in which Envoy keeps what a route rewrites. Any client can send them.
const FORGED: [&[(&str, &str)]; 4] = [
    &[],
    &[("x-envoy-original-path", "/forged/1")],
    &[("x-envoy-original-host", "forged.example:1")],
    &[
        ("x-envoy-original-path", ""),
        ("x-envoy-original-host", "forged.example:1"),
    ],
];

#[test]
fn no_client_forges_the_url_of_a_server_span() {
    let mut tried = 0;
    each_host(|host, envoy, name| {
        let config = json!({
            "report": {"cluster": "collector", "keep": {"errors": true}},
            "span_attributes": {"attributes": [
                {"key": "item", "from": {"path": "/{kind}/{item}", "capture": "item"}},
            ]},
        });
        let route = |prefix: &str, rewrite| {
            Route::prefix(prefix)
                .cluster("upstream")
                .merge(json!({"route": rewrite}))
        };
        let both = json!({"prefix_rewrite": "/a/b/c/", "host_rewrite_literal": "new.example:444"});
        let manager = HttpConnectionManager::new()
            .route(route("/path/", json!({"prefix_rewrite": "/other/new-"})))
            .route(route(
                "/host/",
                json!({"host_rewrite_literal": "new.example:444"}),
            ))
            .route(route("/both/", both))
            .route(route("/", json!({})));
        let listener = Listener::http("ingress", host.trace(manager, config));
        let bootstrap = Bootstrap::new().listener(listener);
        let mesh = host.start_with(envoy, "http/protobuf", bootstrap);
        mesh.upstream.respond_with(|_| Reply::status(503));
        for kind in ["path", "host", "both", "none"] {
            for forged in FORGED {
                for flags in ["01", "00"] {
                    let at = format!("{name} {kind} {forged:?} {flags}");
                    let request = Request::get(&format!("/{kind}/7?token=secret"))
                        .header("host", "shop.example:81")
                        .header("traceparent", format!("00-{TRACE}-{SPAN}-{flags}"));
                    let request = forged.iter().fold(request, |request, (name, value)| {
                        request.header(name, value)
                    });
                    assert_eq!(mesh.send(&request).status, 503, "{at}");
                    tried += 1;
                    let spans = mesh.sink.wait_for_spans(1).expect(&at);
                    mesh.sink.clear();
                    let span = &spans[0];
                    assert_eq!(span.kind, SpanKind::Server, "{at}");
                    let told = |key| span.attribute(key);
                    let path = format!("/{kind}/7");
                    assert_eq!(told("url.path"), Some(&*path), "{at}: {span:#?}");
                    assert_eq!(told("server.address"), Some("shop.example"), "{at}");
                    assert_eq!(told("server.port"), Some("81"), "{at}: {span:#?}");
                    assert_eq!(told("item"), Some("7"), "{at}: {span:#?}");
                    assert_eq!(told("http.route"), Some("/{kind}/{item}"), "{at}");
                    assert_eq!(span.name, "GET /{kind}/{item}", "{at}");
                }
            }
        }
    });
    promises::held(
        "Spans",
        "A SERVER span has the URL that came in, whatever headers of a rewrite the client sends",
        "x-envoy-original-path and x-envoy-original-host, a route that rewrites the path, the host, both or neither, \
         sampled and kept; both hosts",
        &format!("{tried} requests"),
    );
}

#[test]
fn what_is_no_port_is_not_told_as_one() {
    each_host(|host, envoy, name| {
        let mesh = host.start(envoy, json!({"report": {"cluster": "collector"}}));
        for (authority, address, port) in [
            ("h", "h", Some("80")),
            ("h:", "h", Some("80")),
            ("h:81", "h", Some("81")),
            ("h:65535", "h", Some("65535")),
            ("h:65536", "h", None),
            ("h:99999", "h", None),
            ("[::1]:", "::1", Some("80")),
            ("[::1]:99999", "::1", None),
        ] {
            let at = format!("{name} {authority}");
            let request = Request::get("/")
                .header("host", authority)
                .header("traceparent", format!("00-{TRACE}-{SPAN}-01"));
            assert_eq!(mesh.send(&request).status, 200, "{at}");
            let span = mesh.only_span();
            mesh.sink.clear();
            assert_eq!(span.attribute("server.address"), Some(address), "{at}");
            assert_eq!(span.attribute("server.port"), port, "{at}");
        }
    });
}
