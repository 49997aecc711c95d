//! The URL of a CLIENT span: the authority that the attempt was sent with, also where the route takes
//! it from the endpoint.

use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, TrafficDirection,
};
use envoy_test_harness::upstream::Reply;
use envoy_test_harness::{Span, SpanKind, Upstream};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::host::Host;
use meshtrace_test_support::native::{envoys, export, options, tracing};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, reporting};
use serde_json::{Value, json};

const AUTHORITY: &str = "shop.example:8443";

/// Endpoints with hostnames, which are asked one after the other.
fn named(name: &str, server: &Upstream, kind: &str, hosts: &[&str]) -> Cluster {
    let port = server.address().port();
    let endpoint = |host: &&str| {
        let address = if kind == "STRICT_DNS" {
            "localhost"
        } else {
            "127.0.0.1"
        };
        let mut endpoint =
            json!({"address": {"socket_address": {"address": address, "port_value": port}}});
        if kind != "STRICT_DNS" {
            endpoint["hostname"] = json!(host);
        }
        json!({"endpoint": endpoint})
    };
    let endpoints: Vec<Value> = hosts.iter().map(endpoint).collect();
    Cluster::http1(name, server.address()).merge(json!({
        "type": kind, "dns_lookup_family": "V4_ONLY", "lb_policy": "ROUND_ROBIN",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }))
}

fn told(span: &Span) -> [Option<&str>; 3] {
    ["url.full", "server.address", "server.port"].map(|key| span.attribute(key))
}

/// What a URL, its host and its port are for an authority.
fn expected(authority: &str, path: &str) -> [Option<String>; 3] {
    let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
    [
        format!("http://{authority}{path}"),
        host.to_owned(),
        port.to_owned(),
    ]
    .map(Some)
}

#[test]
fn a_client_span_has_the_authority_that_the_attempt_was_sent_with() {
    for envoy in envoys() {
        for attempts in [true, false] {
            let version = format!("{} {attempts}", envoy.reported_version());
            let server = Upstream::start().expect("a server");
            let auto = |cluster: &str, more: Value| {
                let mut route = json!({"auto_host_rewrite": true, "cluster": cluster});
                route
                    .as_object_mut()
                    .expect("an object")
                    .extend(more.as_object().expect("an object").clone());
                json!({"route": route})
            };
            let retry = json!({"retry_policy": {"retry_on": "5xx", "num_retries": 2}});
            let routes = [
                ("/plain/", json!({})),
                (
                    "/literal/",
                    json!({"route": {"host_rewrite_literal": "svc.internal:8080"}}),
                ),
                ("/dns/", auto("dns", json!({}))),
                ("/named/", auto("named", json!({}))),
                ("/nameless/", auto("server", json!({}))),
                ("/path/", auto("named", json!({"prefix_rewrite": "/new/"}))),
                ("/retried/", auto("two", retry)),
            ];
            let config = reporting("http/protobuf", r#"{"keep": {"errors": true}}"#);
            let manager = HttpConnectionManager::new()
                .filter(export())
                .tracing(tracing(config).spawn_upstream_span(attempts));
            let manager = routes
                .into_iter()
                .fold(manager, |manager, (prefix, route)| {
                    manager.route(Route::prefix(prefix).cluster("server").merge(route))
                });
            let direction = if attempts {
                TrafficDirection::Inbound
            } else {
                TrafficDirection::Outbound
            };
            let bootstrap = Bootstrap::new()
                .listener(Listener::http("ingress", manager).direction(direction))
                .cluster(Cluster::http1("server", server.address()))
                .cluster(named("dns", &server, "STRICT_DNS", &["localhost"]))
                .cluster(named("named", &server, "STATIC", &["my.host.name:77"]))
                .cluster(named("two", &server, "STATIC", &["a.host", "b.host:81"]));
            let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options());
            for (path, status, calls) in [
                ("/plain/x", 200, 1),
                ("/literal/x", 200, 1),
                ("/dns/x", 200, 1),
                ("/named/x", 200, 1),
                ("/nameless/x", 200, 1),
                ("/path/x", 200, 1),
                ("/named/x", 503, 1),
                ("/retried/x", 503, 3),
            ] {
                for flags in ["01", "00"] {
                    let at = format!("{version} {path} {flags} {status}");
                    let status = if flags == "00" { 503 } else { status };
                    let calls = if path == "/retried/x" { 3 } else { calls };
                    server.respond_with(move |_| Reply::status(status));
                    let request = Request::get(&format!("{path}?token=secret"))
                        .header("host", AUTHORITY)
                        .header("traceparent", format!("00-{TRACE}-{SPAN}-{flags}"));
                    assert_eq!(mesh.send(&request).status, status, "{at}");
                    let arrived = server.take();
                    assert_eq!(arrived.len(), calls, "{at}");
                    let count = if attempts { calls + 1 } else { 1 };
                    let spans = mesh.sink.wait_for_spans(count).expect(&at);
                    mesh.sink.clear();
                    let mut clients: Vec<_> = spans
                        .iter()
                        .filter(|span| span.kind == SpanKind::Client)
                        .collect();
                    clients.sort_by_key(|span| span.start_unix_nanos);
                    let sent = if attempts {
                        &arrived[..]
                    } else {
                        &arrived[calls - 1..]
                    };
                    assert_eq!(clients.len(), sent.len(), "{at}");
                    for (client, sent) in clients.iter().zip(sent) {
                        let authority = sent.header_text("host").expect("an authority");
                        let path = sent.path.split('?').next().unwrap_or_default();
                        let expected = expected(&authority, path);
                        let expected = expected.each_ref().map(Option::as_deref);
                        assert_eq!(told(client), expected, "{at}: {client:#?}");
                    }
                    for server in spans.iter().filter(|span| span.kind == SpanKind::Server) {
                        assert_eq!(
                            server.attribute("server.address"),
                            Some("shop.example"),
                            "{at}"
                        );
                    }
                }
            }
            assert_eq!(mesh.counter("panics"), 0, "{version}");
        }
    }
    promises::held(
        "Spans",
        "The native tracer's CLIENT span has the URL that its attempt was sent with, also with auto_host_rewrite",
        "7 routes (endpoints by DNS and by hostname, path rewritten, retried), a span for each attempt and one for all, \
         sampled and kept",
        "32 requests a version, 3 versions",
    );
}

/// Where it cannot be told which attempt the rewritten authority is of, or whether Envoy took it from a
/// redirect, no authority is said.
#[test]
fn an_authority_that_cannot_be_known_is_not_said() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let server = Upstream::start().expect("a server");
        server.respond_with(|request| match &*request.path {
            "/moved" => Reply::status(302).header("location", "http://next.example/"),
            _ => match request.header_text("x-envoy-attempt-count").as_deref() {
                Some("1") => Reply::ok().delay(Duration::from_secs(3600)),
                _ => Reply::ok(),
            },
        });
        let auto = json!({"route": {"auto_host_rewrite": true}});
        let hedged = json!({"route": {"auto_host_rewrite": true, "timeout": "0s",
            "hedge_policy": {"hedge_on_per_try_timeout": true},
            "retry_policy": {"retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.3s"}}});
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/moved").cluster("named").merge(auto))
            .route(Route::prefix("/hedged").cluster("two").merge(hedged))
            .virtual_host(json!({"include_request_attempt_count": true}))
            .filter(export())
            .tracing(tracing(reporting("http/protobuf", "{}")).spawn_upstream_span(true));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(named("named", &server, "STATIC", &["my.host.name:77"]))
            .cluster(named("two", &server, "STATIC", &["a.host", "b.host:81"]));
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options());
        for (path, status, count) in [("/moved", 302, 2), ("/hedged", 200, 3)] {
            let request = Request::get(path)
                .header("host", AUTHORITY)
                .header("traceparent", format!("00-{TRACE}-{SPAN}-01"));
            assert_eq!(mesh.send(&request).status, status, "{version}");
            let spans = mesh.sink.wait_for_spans(count).expect("the spans");
            mesh.sink.clear();
            for client in spans.iter().filter(|span| span.kind == SpanKind::Client) {
                assert_eq!(told(client), [None; 3], "{version} {path}: {client:#?}");
                assert_eq!(client.attribute("url.path"), Some(path), "{version}");
            }
        }
    }
}
