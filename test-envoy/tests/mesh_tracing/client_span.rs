//! What a CLIENT span says of the call: the status that the upstream sent, and the URL as it was
//! sent to it.
//!
//! OpenTelemetry's semantic conventions for HTTP decide: `http.response.status_code` "if and only if one
//! was received", `url.full`, `server.address` and `server.port` of the request that was sent, and
//! `error.type` where there is no status.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, TrafficDirection,
};
use envoy_test_harness::upstream::Reply;
use envoy_test_harness::{EnvoyBinary, SpanKind, Upstream, each_supported, expect};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::ends::{CALLS, answer, routes, send_in};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, mesh_tracing, reporting};
use serde_json::json;

fn mesh(envoy: &EnvoyBinary, server: &Upstream) -> Collected {
    let of_role = |role: &str| {
        let report = json!({"role": role, "keep": {"per_second": 1000}}).to_string();
        let mut manager = HttpConnectionManager::new()
            .filter(mesh_tracing(reporting("http/protobuf", &report)))
            .virtual_host(json!({"include_request_attempt_count": true}))
            .merge(json!({"request_timeout": "0.5s"}));
        let all = ["http1", "http2", "nobody"].map(routes).concat();
        for route in all {
            manager = manager.route(route);
        }
        let manager = manager
            .route(Route::prefix("/direct").direct_response(404, "no"))
            .route(Route::prefix("/there/").cluster("http1"));
        Listener::http(role, manager).direction(TrafficDirection::Outbound)
    };
    // Of all calls at once.
    let retries = json!({"circuit_breakers": {"thresholds": [{"max_retries": 1000}]}});
    let nobody = Cluster::http1("nobody", server.address())
        .merge(json!({"load_assignment": {"cluster_name": "nobody", "endpoints": []}}));
    let bootstrap = Bootstrap::new()
        .listener(of_role("gateway"))
        .listener(of_role("client"))
        .cluster(Cluster::http1("http1", server.address()).merge(retries.clone()))
        .cluster(Cluster::http2("http2", server.address()).merge(retries))
        .cluster(nobody);
    Collected::with(envoy, "http/protobuf", bootstrap)
}

fn send(mesh: &Collected, listener: &str, path: &str) {
    send_in(mesh, listener, path, TRACE, "01");
}

#[test]
fn a_client_span_has_the_status_that_the_upstream_sent() {
    let mut tried = 0;
    each_supported(|envoy| {
        let server = Upstream::start().expect("a server");
        server.respond_with(answer);
        let mesh = mesh(envoy, &server);
        for (role, count) in [("gateway", 2), ("client", 1)] {
            // Each in a trace of its own; what is not sampled is kept where it failed, and then
            // says the same.
            let calls: Vec<_> = ["http1", "http2"]
                .into_iter()
                .flat_map(|cluster| CALLS.map(|call| (cluster, call)))
                .flat_map(|(cluster, call)| ["01", "00"].map(|flags| (cluster, call, flags)))
                .zip(1_u128..)
                .collect();
            tried += calls.len();
            let before = mesh.counter("report.kept");
            thread::scope(|scope| {
                for ((cluster, (call, ..), flags), id) in &calls {
                    let (path, trace) = (format!("/{cluster}/{call}"), format!("{id:032x}"));
                    let mesh = &mesh;
                    scope.spawn(move || send_in(mesh, role, &path, &trace, flags));
                }
            });
            let kept = usize::try_from(mesh.counter("report.kept") - before).expect("a number");
            assert!(kept > 20, "{kept}");
            let spans = (calls.len() / 2 + kept) * count;
            let spans = mesh.sink.wait_for_spans(spans).expect("the spans");
            mesh.sink.clear();
            for ((cluster, (call, status, is_error), flags), id) in &calls {
                let at = format!(
                    "{} {role} {cluster} {call} {flags}",
                    envoy.reported_version()
                );
                let trace = format!("{id:032x}");
                let calls = expect::span().of_kind(SpanKind::Client).in_trace(&trace);
                let [client] = calls.all_in(&spans)[..] else {
                    assert_eq!(*flags, "00", "{at}");
                    continue;
                };
                let told = client.attribute("http.response.status_code");
                assert_eq!(told, *status, "{at}: {client:#?}");
                assert_eq!(client.status_error, *is_error, "{at}: {client:#?}");
                let error = client.attribute("error.type");
                assert_eq!(error.is_some(), *is_error, "{at}: {error:?}");
                assert_ne!(error, Some("_OTHER"), "{at}");
            }
        }
        assert_eq!(mesh.counter("host_errors"), 0);
    });
    let versions = EnvoyBinary::SUPPORTED.len();
    promises::held(
        "Spans",
        "A CLIENT span has `http.response.status_code` if the upstream sent one, and only then",
        &format!(
            "{} ways to end (answers, cuts, six limits of time, retries), HTTP/1.1 and HTTP/2 upstreams, roles gateway \
             and client, sampled and kept",
            CALLS.len()
        ),
        &format!(
            "{} requests a version, {versions} versions",
            tried / versions
        ),
    );
}

#[test]
fn a_call_that_was_never_made_has_no_span_and_is_no_resend() {
    each_supported(|envoy| {
        let server = Upstream::start().expect("a server");
        let mesh = mesh(envoy, &server);
        let at = envoy.reported_version();
        for path in ["/nobody/ok", "/nobody/retry/ok", "/direct"] {
            send(&mesh, "gateway", path);
            let spans = mesh.sink.wait_for_spans(1).expect("a span");
            std::thread::sleep(Duration::from_millis(200));
            assert_eq!(mesh.sink.spans().len(), 1, "{at} {path}");
            mesh.sink.clear();
            assert_eq!(spans[0].kind, SpanKind::Server, "{at} {path}");
            // As one span alone the call is told as one that failed, without an answer of
            // anybody's.
            send(&mesh, "client", path);
            let spans = mesh.sink.wait_for_spans(1).expect("a span");
            mesh.sink.clear();
            let told = |key| spans[0].attribute(key);
            assert_eq!(told("http.response.status_code"), None, "{at} {path}");
            assert_eq!(told("http.request.resend_count"), None, "{at} {path}");
            assert!(spans[0].status_error, "{at} {path}");
        }
        // The last try finds nobody: the first was the only call.
        assert!(server.requests().is_empty(), "{at}");
    });
}

#[test]
fn a_request_that_never_came_whole_has_no_status_of_the_upstream() {
    each_supported(|envoy| {
        let server = Upstream::start().expect("a server");
        let mesh = mesh(envoy, &server);
        let address = mesh.envoy.address("gateway").expect("its address");
        let mut stream = TcpStream::connect(address).expect("a connection");
        write!(
            stream,
            "POST /http1/ok HTTP/1.1\r\nhost: a\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\ncontent-length: 9\r\n\r\npart"
        )
        .expect("a request");
        let spans = mesh.sink.wait_for_spans(2).expect("two spans");
        let at = envoy.reported_version();
        let told = |kind| {
            expect::span()
                .of_kind(kind)
                .find_in(&spans)
                .attribute("http.response.status_code")
        };
        assert_eq!(told(SpanKind::Server), Some("408"), "{at}");
        assert_eq!(told(SpanKind::Client), None, "{at}");
    });
}

/// Both passes of a request that a response leads elsewhere tell of their own call.
#[test]
fn a_redirect_that_envoy_follows_leaves_each_call_its_status_and_its_url() {
    each_supported(|envoy| {
        let server = Upstream::start().expect("a server");
        server.respond_with(answer);
        let mesh = mesh(envoy, &server);
        send(&mesh, "gateway", "/http1/led/led");
        let spans = mesh.sink.wait_for_spans(4).expect("four spans");
        let at = envoy.reported_version();
        let clients = expect::span().of_kind(SpanKind::Client).all_in(&spans);
        let mut told: Vec<_> = clients
            .iter()
            .map(|span| {
                let of = |key| span.attribute(key).unwrap_or_default();
                [
                    of("http.response.status_code"),
                    of("url.full"),
                    of("server.address"),
                    of("server.port"),
                ]
            })
            .collect();
        told.sort_unstable();
        let expected = [
            [
                "200",
                "http://other.example:81/there/ok",
                "other.example",
                "81",
            ],
            [
                "302",
                "http://shop.example:80/rewritten/led",
                "shop.example",
                "80",
            ],
        ];
        assert_eq!(told, expected, "{at}: {clients:#?}");
    });
}

/// A route's rewrite; the path that was asked for, the authority and the path that were sent.
fn rewrites() -> Vec<(&'static str, serde_json::Value, &'static str, &'static str)> {
    vec![
        ("/as-it-is/x", json!({}), "shop.example:8443", "/as-it-is/x"),
        (
            "/literal/x",
            json!({"host_rewrite_literal": "svc.internal:8080"}),
            "svc.internal:8080",
            "/literal/x",
        ),
        (
            "/header/x",
            json!({"host_rewrite_header": "x-host"}),
            "from.header",
            "/header/x",
        ),
        (
            "/regex-host/x",
            json!({"host_rewrite_path_regex": {
                "pattern": {"regex": "^/regex-host/(.*)$"}, "substitution": "\\1.example"}}),
            "x.example",
            "/regex-host/x",
        ),
        (
            "/auto/x",
            json!({"auto_host_rewrite": true, "cluster": "named"}),
            "localhost",
            "/auto/x",
        ),
        (
            "/prefix/x",
            json!({"prefix_rewrite": "/new/"}),
            "shop.example:8443",
            "/new/x",
        ),
        (
            "/regex/x",
            json!({"regex_rewrite": {"pattern": {"regex": "^/regex/(.*)$"}, "substitution": "/v2/\\1/y"}}),
            "shop.example:8443",
            "/v2/x/y",
        ),
        (
            "/both/x",
            json!({"prefix_rewrite": "/new/", "host_rewrite_literal": "[2001:db8::1]:81"}),
            "[2001:db8::1]:81",
            "/new/x",
        ),
    ]
}

#[test]
fn a_client_span_has_the_url_that_was_sent_and_a_server_span_the_one_that_came() {
    let mut tried = 0;
    each_supported(|envoy| {
        let server = Upstream::start().expect("a server");
        let of_role = |role: &str| {
            let config = json!({
                "report": {"cluster": "collector", "role": role},
                "sampling": {"rules": [{
                    "match": {"path": {"template": "/{kind}/{name}"}}, "sample": "always"}]},
            });
            let mut manager = HttpConnectionManager::new().filter(mesh_tracing(config));
            for (path, rewrite, ..) in rewrites() {
                let kind = path.trim_end_matches('x');
                manager = manager.route(
                    Route::prefix(kind)
                        .cluster("server")
                        .merge(json!({"route": rewrite})),
                );
            }
            Listener::http(role, manager)
        };
        let port = server.address().port();
        let named = Cluster::http1("named", server.address()).merge(json!({
            "type": "STRICT_DNS", "dns_lookup_family": "V4_ONLY",
            "load_assignment": {"cluster_name": "named", "endpoints": [{"lb_endpoints": [{"endpoint": {
                "address": {"socket_address": {"address": "localhost", "port_value": port}}}}]}]}}));
        let bootstrap = Bootstrap::new()
            .listener(of_role("gateway"))
            .listener(of_role("client"))
            .cluster(Cluster::http1("server", server.address()))
            .cluster(named);
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        for (role, count) in [("gateway", 2), ("client", 1)] {
            let address = mesh.envoy.address(role).expect("its address");
            for (path, _, authority, sent) in rewrites() {
                for (flags, status) in [("01", 200), ("00", 503)] {
                    let at = format!("{} {role} {path} {flags}", envoy.reported_version());
                    server.respond_with(move |_| Reply::status(status));
                    let request = Request::get(&format!("{path}?token=secret"))
                        .header("host", "shop.example:8443")
                        .header("x-host", "from.header")
                        .header("traceparent", format!("00-{TRACE}-{SPAN}-{flags}"));
                    assert_eq!(
                        request.send(address).expect("a response").status,
                        status,
                        "{at}"
                    );
                    tried += 1;
                    let arrived = server.take().remove(0);
                    assert_eq!(arrived.path, format!("{sent}?token=secret"), "{at}");
                    assert_eq!(
                        arrived.header_text("host").as_deref(),
                        Some(authority),
                        "{at}"
                    );
                    let spans = mesh.sink.wait_for_spans(count).expect(&at);
                    mesh.sink.clear();

                    let client = expect::span()
                        .of_kind(SpanKind::Client)
                        .at(&at)
                        .find_in(&spans);
                    let url = format!("http://{authority}{sent}");
                    assert_eq!(client.attribute("url.full"), Some(url.as_str()), "{at}");
                    assert_eq!(client.attribute("url.path"), Some(sent), "{at}");
                    let template = (path == sent).then_some("/{kind}/{name}");
                    assert_eq!(client.attribute("url.template"), template, "{at}");
                    let (host, port) = match authority {
                        "[2001:db8::1]:81" => ("2001:db8::1", "81"),
                        authority => authority.split_once(':').unwrap_or((authority, "80")),
                    };
                    assert_eq!(client.attribute("server.address"), Some(host), "{at}");
                    assert_eq!(client.attribute("server.port"), Some(port), "{at}");

                    for server in expect::span().of_kind(SpanKind::Server).all_in(&spans) {
                        assert_eq!(server.attribute("url.path"), Some(path), "{at}");
                        let host = server.attribute("server.address");
                        assert_eq!(host, Some("shop.example"), "{at}");
                        assert_eq!(server.attribute("server.port"), Some("8443"), "{at}");
                    }
                }
            }
        }
    });
    let versions = EnvoyBinary::SUPPORTED.len();
    promises::held(
        "Spans",
        "After a rewrite a CLIENT span has the URL that was sent, and the SERVER span the one that came",
        &format!(
            "{} routes (host by literal, header, path and endpoint; path by prefix and regex), roles gateway and client, \
             sampled and kept",
            rewrites().len()
        ),
        &format!(
            "{} requests a version, {versions} versions",
            tried / versions
        ),
    );
}

/// The order of the flags is the access log's.
#[test]
fn response_flags_stand_in_the_order_of_the_access_log() {
    each_supported(|envoy| {
        let server = Upstream::start().expect("a server");
        server.respond_with(answer);
        let delay = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
            "delay": {"fixed_delay": "0.001s", "percentage": {"numerator": 100}},
        });
        let mut manager = HttpConnectionManager::new()
            .filter(mesh_tracing(reporting(
                "http/protobuf",
                r#"{"role": "gateway"}"#,
            )))
            .filter(envoy_test_harness::config::HttpFilter::raw("fault", delay))
            .access_log(json!({"flags": "%RESPONSE_FLAGS%"}));
        for route in routes("http1") {
            manager = manager.route(route);
        }
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1("http1", server.address()));
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        let log = mesh.envoy.access_log("ingress");
        let calls = [
            "ok",
            "retry/reset",
            "per-try/silent",
            "timeout/silent",
            "retry/fails",
            "cut",
        ];
        for (nth, call) in calls.into_iter().enumerate() {
            send(&mesh, "ingress", &format!("/http1/{call}"));
            let spans = mesh.sink.wait_for_spans(2).expect("two spans");
            mesh.sink.clear();
            let lines = log.wait_for_lines(nth + 1).expect("a line");
            for span in spans {
                let at = format!("{} {call}", envoy.reported_version());
                assert_eq!(
                    span.attribute("response_flags"),
                    lines[nth]["flags"].as_str(),
                    "{at}"
                );
            }
        }
    });
}
