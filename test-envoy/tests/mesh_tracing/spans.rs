//! `mesh_tracing.wasm` with `report`: the spans that a collector gets from real Envoys.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route, TrafficDirection,
};
use envoy_test_harness::upstream::{ClosedPort, Reply};
use envoy_test_harness::{Span, SpanKind, each_supported, expect};
use meshtrace_test_support::common::{self, SPAN, TRACE, get, newest};
use meshtrace_test_support::host::{Host, each_host};
use meshtrace_test_support::reporting::{
    Collected, attributes, manager, mesh_tracing, reporting, sampled, traceparent,
};
use serde_json::json;

/// A sampled request for `path`.
fn sampled_at(path: &str) -> Request {
    Request::get(path).header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
}

/// Whatever a span says is in the reference of its host.
fn assert_documented(host: Host, span: &Span) {
    let mut reference = common::text("docs/mesh_tracing.md");
    if host == Host::Native {
        reference += &common::text("docs/native.md");
    }
    let keys = span.attributes.keys().chain(span.resource.keys());
    for key in keys
        .filter(|key| !key.starts_with("telemetry.sdk.") && *key != "deployment.environment.name")
    {
        assert!(reference.contains(&format!("`{key}`")), "{key}");
    }
}

/// The one span that arrived, which is then forgotten.
fn only(mesh: &Collected) -> Span {
    let span = mesh.only_span();
    assert_documented(mesh.host, &span);
    span
}

#[test]
fn a_proxied_request_is_a_server_span_with_every_attribute() {
    each_supported(|envoy| {
        for protocol in ["http/protobuf", "grpc"] {
            let mesh = Collected::start(envoy, protocol, "{}");
            let request = Request::post("/cart/7?user=secret", "hello")
                .header("host", "shop.example.com:8443")
                .header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
                .header("tracestate", "vendor=1")
                .header("user-agent", "test/\u{e9}1.0")
                .header("x-request-id", "7f5c4d5c-0b5c-9f5c-8f5c-7f5c4d5c0b5c");
            mesh.upstream
                .respond_with(|_| Reply::ok().body("hi").delay(Duration::from_millis(20)));
            assert_eq!(mesh.send(&request.clone()).status, 200);

            let version = envoy.reported_version();
            let span = only(&mesh);
            let left = traceparent(&mesh.upstream.take().remove(0));
            assert_eq!(span.trace_id, TRACE, "{version}");
            assert_eq!(left, [TRACE, &span.span_id, "01"], "{version}");
            assert_eq!(span.parent_span_id.as_deref(), Some(SPAN), "{version}");
            assert_eq!(span.kind, SpanKind::Server, "{version}");
            assert_eq!(span.name, "POST", "{version}");
            assert_eq!(span.trace_state, "vendor=1", "{version}");
            assert!(!span.status_error, "{version}");
            let duration = span.end_unix_nanos - span.start_unix_nanos;
            assert!(duration >= 20_000_000, "{version}: {duration}");
            let upstream = mesh.upstream.address().to_string();
            let expected = attributes(&[
                ("client.address", "127.0.0.1"),
                ("http.request.body.size", "5"),
                (
                    "http.request.header.x-request-id",
                    r#"["7f5c4d5c-0b5c-9f5c-8f5c-7f5c4d5c0b5c"]"#,
                ),
                ("http.request.method", "POST"),
                ("http.response.body.size", "2"),
                ("http.response.status_code", "200"),
                ("network.protocol.version", "1.1"),
                ("node_id", "test"),
                ("server.address", "shop.example.com"),
                ("server.port", "8443"),
                ("upstream_address", &upstream),
                ("upstream_cluster.name", "upstream"),
                ("url.path", "/cart/7"),
                ("url.scheme", "http"),
                ("user_agent.original", "test/\u{e9}1.0"),
            ]);
            assert_eq!(span.attributes, expected, "{version}");
            let expected = attributes(&[
                ("service.instance.id", "test"),
                ("service.name", "test"),
                ("telemetry.sdk.language", "rust"),
                ("telemetry.sdk.name", "meshtrace"),
                ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
            ]);
            assert_eq!(span.resource, expected, "{version}");

            assert_eq!(mesh.counter("report.looked_up_singly"), 0, "{version}");
            assert_eq!(mesh.counter("host_errors"), 0, "{version}");
        }
    });
}

/// Nothing of an export is traced: not by this filter, which its calls never meet, nor by Envoy.
#[test]
fn exports_carry_what_the_configuration_says_and_no_trace() {
    each_supported(|envoy| {
        for (protocol, path) in [
            ("http/protobuf", "/v1/traces"),
            (
                "grpc",
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            ),
        ] {
            let report = r#"{"authority": "otel.example.com", "headers": {"x-api-key": "k"},
                             "resource": {"service.name": "shop", "deployment.environment.name": "test"}}"#;
            let mesh = Collected::start(envoy, protocol, report);
            mesh.send(&sampled());
            let exports = mesh.sink.wait_for_exports(1).expect("an export");
            let [export] = exports.as_slice() else {
                panic!("{exports:#?}");
            };
            assert_eq!(export.path, path);
            assert_eq!(
                export.header_text("host").as_deref(),
                Some("otel.example.com")
            );
            assert_eq!(export.header_text("x-api-key").as_deref(), Some("k"));
            for header in common::TRACE_HEADERS {
                assert_eq!(export.header_text(header), None, "{header}");
            }
            let span = only(&mesh);
            assert_eq!(span.service, "shop");
            assert_eq!(span.resource["deployment.environment.name"], "test");
            mesh.wait_for_counter("report.exported", 1);
            assert_eq!(mesh.counter("report.malformed_answers"), 0);
        }
    });
}

#[test]
fn what_envoy_answers_itself_is_a_span_too() {
    each_supported(|envoy| {
        let closed = ClosedPort::reserve().expect("a closed port");
        let config = reporting("http/protobuf", "{}");
        let manager = HttpConnectionManager::new()
            .virtual_host(json!({"domains": ["shop"]}))
            .route(Route::prefix("/direct").direct_response(404, "no"))
            .route(Route::prefix("/down").cluster("down"))
            .filter(mesh_tracing(config));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1("down", closed.address()));
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        let version = envoy.reported_version();
        for (host, path, status, flags, error) in [
            ("shop", "/direct", 404, None, None),
            ("elsewhere", "/", 404, Some("NR"), None),
            ("shop", "/nowhere", 404, Some("NR"), None),
            ("shop", "/down", 503, Some("UF"), Some("503")),
        ] {
            let response = mesh.send(&sampled_at(path).header("host", host));
            assert_eq!(response.status, status, "{version} {path}");
            let span = only(&mesh);
            let status = status.to_string();
            assert_eq!(
                span.attribute("http.response.status_code"),
                Some(status.as_str())
            );
            assert_eq!(span.attribute("response_flags"), flags, "{version} {path}");
            assert_eq!(span.attribute("error.type"), error, "{version} {path}");
            assert_eq!(span.status_error, error.is_some(), "{version} {path}");
            assert_eq!(span.attribute("url.path"), Some(path));
            assert_eq!(span.attribute("client.address"), Some("127.0.0.1"));
            assert_eq!(span.attribute("network.protocol.version"), Some("1.1"));
            assert_eq!(span.parent_span_id.as_deref(), Some(SPAN));
            let cluster = (path == "/down").then_some("down");
            assert_eq!(
                span.attribute("upstream_cluster.name"),
                cluster,
                "{version} {path}"
            );
        }
        assert_eq!(mesh.counter("report.looked_up_singly"), 0, "{version}");
        assert_eq!(mesh.counter("host_errors"), 0, "{version}");
    });
}

/// A request that Envoy refuses before any filter runs is in the log, and so it is a span.
#[test]
fn what_no_filter_saw_is_a_span_too() {
    each_supported(|envoy| {
        let config = reporting("http/protobuf", "{}");
        let deny = "function envoy_on_request(r) r:respond({[\":status\"] = \"403\"}, \"no\") end";
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/").cluster("upstream"))
            .filter(HttpFilter::lua("deny", deny))
            .filter(mesh_tracing(config));
        let bootstrap = Bootstrap::new().listener(Listener::http("ingress", manager));
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        assert_eq!(mesh.send(&sampled_at("/denied")).status, 403);
        let span = only(&mesh);
        assert_eq!(span.parent_span_id.as_deref(), Some(SPAN));
        assert_eq!(span.attribute("url.path"), Some("/denied"));
        assert_eq!(span.attribute("http.response.status_code"), Some("403"));
        assert!(span.start_unix_nanos > 0 && span.start_unix_nanos <= span.end_unix_nanos);
    });
}

#[test]
fn a_gateway_reports_its_own_span_and_the_call_of_the_upstream() {
    each_supported(|envoy| {
        let config = reporting("http/protobuf", r#"{"role": "auto"}"#);
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/direct").direct_response(404, "no"))
            .route(Route::prefix("/").cluster("upstream").retry("5xx", 2))
            .filter(mesh_tracing(config));
        let listener = Listener::http("ingress", manager).direction(TrafficDirection::Outbound);
        let bootstrap = Bootstrap::new()
            .node("router~10.0.0.1~gateway-1.istio-system~svc", "gateway.istio-system")
            .merge(json!({"node": {"metadata": {
                "NAME": "gateway-1", "NAMESPACE": "istio-system", "MESH_ID": "mesh", "CLUSTER_ID": "c1",
                "LABELS": {"service.istio.io/canonical-name": "gateway", "app": "other",
                           "service.istio.io/canonical-revision": "v2"},
            }}}))
            .listener(listener);
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        let version = envoy.reported_version();
        let attempts = std::sync::atomic::AtomicUsize::new(0);
        mesh.upstream.respond_with(move |_| {
            match attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 | 1 => Reply::status(503),
                _ => Reply::ok(),
            }
        });
        assert_eq!(mesh.send(&sampled_at("/a?b")).status, 200);
        let spans = mesh.sink.wait_for_spans(2).expect("two spans");
        mesh.sink.clear();
        spans
            .iter()
            .for_each(|span| assert_documented(Host::Wasm, span));
        let of_kind = |kind| expect::span().of_kind(kind).at(version);
        let server = of_kind(SpanKind::Server).child_of_ids(TRACE, SPAN);
        let server = server.find_in(&spans);
        let client = of_kind(SpanKind::Client).child_of(server).find_in(&spans);
        let requests = mesh.upstream.take();
        assert_eq!(requests.len(), 3);
        for request in &requests {
            assert_eq!(traceparent(request)[1], client.span_id, "{version}");
            assert_eq!(
                request.header_text("x-b3-parentspanid").as_ref(),
                Some(&server.span_id)
            );
        }
        let upstream = mesh.upstream.address();
        assert_eq!(
            client.attribute("http.request.resend_count"),
            Some("2"),
            "{version}"
        );
        assert_eq!(client.attribute("url.full"), Some("http://localhost/a"));
        assert_eq!(client.attribute("network.peer.address"), Some("127.0.0.1"));
        assert_eq!(
            client.attribute("network.peer.port"),
            Some(upstream.port().to_string().as_str())
        );
        assert_eq!(client.attribute("server.address"), Some("localhost"));
        assert_eq!(client.attribute("client.address"), None);
        assert_eq!(server.attribute("http.request.resend_count"), None);
        assert_eq!(server.attribute("url.full"), None);
        for (key, value) in [
            ("service.name", "other.istio-system"),
            ("service.namespace", "istio-system"),
            ("service.version", "v2"),
            ("k8s.pod.name", "gateway-1"),
            ("k8s.namespace.name", "istio-system"),
            ("istio.canonical_service", "gateway"),
            ("istio.canonical_revision", "v2"),
            ("istio.mesh_id", "mesh"),
            ("istio.cluster_id", "c1"),
        ] {
            assert_eq!(
                server.resource.get(key).map(String::as_str),
                Some(value),
                "{key}"
            );
        }

        assert_eq!(mesh.send(&sampled_at("/direct")).status, 404);
        assert_eq!(only(&mesh).kind, SpanKind::Server, "no upstream, no call");
    });
}

#[test]
fn a_sidecar_s_direction_decides_the_kind() {
    each_supported(|envoy| {
        let listener = |name: &str, direction| {
            let config = reporting("http/protobuf", "{}");
            Listener::http(name, manager(mesh_tracing(config))).direction(direction)
        };
        let bootstrap = Bootstrap::new()
            .node("sidecar~10.0.0.1~shop-1.default~svc", "shop.default")
            .listener(listener("ingress", TrafficDirection::Inbound))
            .listener(listener("egress", TrafficDirection::Outbound));
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        for (name, kind) in [("ingress", SpanKind::Server), ("egress", SpanKind::Client)] {
            let address = mesh.envoy.address(name).expect("its address");
            sampled().send(address).expect("a response");
            let span = only(&mesh);
            assert_eq!(span.kind, kind, "{} {name}", envoy.reported_version());
            assert_eq!(span.service, "shop.default");
            let is_client = kind == SpanKind::Client;
            assert_eq!(span.attribute("url.full").is_some(), is_client);
            assert_eq!(span.attribute("client.address").is_some(), !is_client);
        }
    });
}

#[test]
fn a_client_that_goes_away_is_no_error_of_the_server() {
    each_host(|host, envoy, version| {
        let mesh = host.reporting(envoy, "http/protobuf", r#"{"keep": {"slower_than_ms": 1}}"#);
        mesh.upstream
            .respond_with(|_| Reply::ok().delay(Duration::from_secs(30)));
        for flags in ["00", "01"] {
            let address = mesh.envoy.address("ingress").expect("its address");
            let mut stream = TcpStream::connect(address).expect("a connection");
            write!(
                stream,
                "GET /slow HTTP/1.1\r\nhost: a\r\ntraceparent: 00-{TRACE}-{SPAN}-{flags}\r\n\r\n"
            )
            .expect("a request");
            mesh.upstream.wait_for_requests(1).expect("the request");
            mesh.upstream.take();
            // Longer than what is slow.
            std::thread::sleep(Duration::from_millis(5));
        }
        // The one that is not sampled is not kept either.
        let span = only(&mesh);
        assert_eq!(
            span.attribute("http.response.status_code"),
            None,
            "{version}"
        );
        // "If the operation has completed successfully, instrumentations SHOULD NOT set
        // `error.type`" (OpenTelemetry, semantic conventions for HTTP spans), and the status says
        // that it has.
        assert_eq!(span.attribute("error.type"), None, "{version}");
        assert_eq!(span.attribute("response_flags"), Some("DC"), "{version}");
        assert!(!span.status_error, "{version}");
        if host == Host::Wasm {
            assert_eq!(mesh.counter("report.looked_up_singly"), 2, "{version}");
        }
        assert_eq!(mesh.counter("report.kept"), 0, "{version}");
        mesh.assert_sound(version);
    });
}

#[test]
fn server_errors_and_slow_requests_are_kept_and_marked() {
    each_host(|host, envoy, version| {
        let report = r#"{"keep": {"slower_than_ms": 200, "per_second": 2}}"#;
        let mesh = host.reporting(envoy, "http/protobuf", report);
        mesh.upstream
            .respond_with(|request| match request.path.as_str() {
                "/error" => Reply::status(500),
                "/reset" => Reply::reset(),
                "/grpc" => Reply::ok()
                    .header("content-type", "application/grpc")
                    .header("grpc-status", "14"),
                "/slow" => Reply::ok().delay(Duration::from_millis(300)),
                "/missing" => Reply::status(404),
                _ => Reply::ok(),
            });
        let not_sampled = |path: &str| {
            let request = Request::get(path).header("traceparent", format!("00-{TRACE}-{SPAN}-00"));
            match path {
                "/grpc" => request.header("content-type", "application/grpc"),
                _ => request,
            }
        };
        for path in ["/ok", "/missing"] {
            mesh.send(&not_sampled(path));
        }
        for (path, reason, error) in [
            ("/error", "error", Some("500")),
            ("/reset", "error", Some("503")),
            ("/grpc", "error", Some("UNAVAILABLE")),
            ("/slow", "slow", None),
        ] {
            mesh.send(&not_sampled(path));
            let span = only(&mesh);
            assert_eq!(span.attribute("url.path"), Some(path), "{version}");
            assert_eq!(span.attribute("meshtrace.kept"), Some(reason), "{version}");
            assert_eq!(span.attribute("error.type"), error, "{version}");
            assert_eq!(span.status_error, error.is_some(), "{version}");
            assert_eq!(span.parent_span_id.as_deref(), Some(SPAN));
            let left = mesh.upstream.take();
            let last = left.last().expect("the request");
            assert_eq!(traceparent(last), [TRACE, &span.span_id, "00"], "{version}");
            // Not more than two in a second.
            std::thread::sleep(Duration::from_millis(600));
        }
        assert_eq!(mesh.counter("report.kept"), 4, "{version}");
        for _ in 0..20 {
            mesh.send(&not_sampled("/error"));
        }
        assert!(mesh.counter("report.keep_limited") > 0, "{version}");
    });
}

#[test]
fn a_trace_that_starts_here_is_sampled_by_its_id() {
    for host in Host::ALL {
        let mesh = host.reporting(&newest(), "http/protobuf", "{}");
        let mut connection = mesh.connect();
        for _ in 0..1500 {
            connection.send(&get(&[])).expect("a response");
        }
        let mut sampled = Vec::new();
        for request in mesh.upstream.take() {
            let [trace_id, _, flags] = traceparent(&request);
            let randomness = u64::from_str_radix(&trace_id[18..], 16).expect("digits");
            let expected = randomness >= 0xfd_70a4_0000_0000;
            assert_eq!(flags, if expected { "01" } else { "00" }, "{trace_id}");
            let tracestate = request.header_text("tracestate");
            assert_eq!(tracestate.as_deref(), expected.then_some("ot=th:fd70a4"));
            if expected {
                sampled.push(trace_id);
            }
        }
        let spans = mesh.sink.wait_for_spans(sampled.len()).expect("the spans");
        let mut reported: Vec<_> = spans.iter().map(|span| span.trace_id.clone()).collect();
        reported.sort();
        sampled.sort();
        assert_eq!(reported, sampled);
        assert!(!sampled.is_empty(), "one in a hundred");
        for span in &spans {
            assert_eq!(
                (span.parent_span_id.as_ref(), span.trace_state.as_str()),
                (None, "ot=th:fd70a4")
            );
        }
    }
}

#[test]
fn any_format_that_came_in_is_the_parent() {
    for host in Host::ALL {
        let mesh = host.reporting(&newest(), "http/protobuf", "{}");
        for (name, value, parent) in [
            ("b3", format!("{TRACE}-{SPAN}-1"), Some(SPAN)),
            ("b3", format!("{TRACE}-{SPAN}-d"), Some(SPAN)),
            ("b3", "1".to_owned(), None),
            ("x-b3-sampled", "1".to_owned(), None),
        ] {
            mesh.send(&get(&[(name, &value)]));
            let span = only(&mesh);
            assert_eq!(span.parent_span_id.as_deref(), parent, "{name}: {value}");
            assert_eq!(span.trace_id == TRACE, parent.is_some(), "{name}: {value}");
            let left = traceparent(&mesh.upstream.take().remove(0));
            assert_eq!(left[1], span.span_id);
        }
        // "Do not trace" is believed.
        mesh.send(&get(&[("b3", "0")]));
        assert_eq!(traceparent(&mesh.upstream.take().remove(0))[2], "00");
    }
}

#[test]
fn no_bytes_of_a_client_are_more_than_a_span_can_carry() {
    for host in Host::ALL {
        let mesh = host.reporting(&newest(), "http/protobuf", "{}");
        let request = Request::new("PROPFIND", &format!("/{}", "p".repeat(20_000)))
            .header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
            .header("user-agent", b"\xff\xfe".repeat(2000))
            .header("tracestate", format!("a={}", "b".repeat(250)))
            .header("x-request-id", b"\xc3".repeat(300));
        assert_eq!(mesh.send(&request).status, 200);
        let span = only(&mesh);
        assert_eq!(span.name, "HTTP");
        assert_eq!(span.attribute("http.request.method"), Some("_OTHER"));
        assert_eq!(
            span.attribute("http.request.method_original"),
            Some("PROPFIND")
        );
        assert_eq!(span.attribute("url.path").map(str::len), Some(1024));
        assert_eq!(
            span.attribute("user_agent.original").map(str::len),
            Some(255)
        );
    }
}
