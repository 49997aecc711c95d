//! The CLIENT spans: one for every attempt, each told to the upstream that it calls.
//!
//! OpenTelemetry's semantic conventions for HTTP clients decide (`http.request.resend_count`, a span for
//! each attempt).

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{HttpConnectionManager, Route};
use envoy_test_harness::upstream::Reply;
use envoy_test_harness::{Span, SpanKind};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::host::Host;
use meshtrace_test_support::native::{envoys, export, manager, start, tracing};
use meshtrace_test_support::reporting::{reporting, traceparent};

fn of_kind(spans: &[Span], kind: SpanKind) -> Vec<&Span> {
    spans.iter().filter(|span| span.kind == kind).collect()
}

fn sampled(path: &str) -> Request {
    Request::get(path).header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
}

#[test]
fn every_attempt_is_a_span_that_its_upstream_was_told() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let manager = HttpConnectionManager::new()
            .route(
                Route::prefix("/")
                    .cluster("upstream")
                    .retry("5xx", 3)
                    .merge(serde_json::json!({"route": {"prefix_rewrite": "/inner/"}})),
            )
            .filter(export())
            .tracing(tracing(reporting("http/protobuf", "{}")).spawn_upstream_span(true));
        let mesh = start(&envoy, "http/protobuf", manager);
        let failures = std::sync::atomic::AtomicUsize::new(0);
        mesh.upstream.respond_with(move |_| {
            match failures.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 | 1 => Reply::status(503),
                _ => Reply::ok(),
            }
        });
        assert_eq!(mesh.send(&sampled("/shop")).status, 200, "{version}");
        let spans = mesh.sink.wait_for_spans(4).expect("four spans");
        let servers = of_kind(&spans, SpanKind::Server);
        let mut clients = of_kind(&spans, SpanKind::Client);
        let [server] = servers.as_slice() else {
            panic!("{version}: {spans:#?}");
        };
        assert_eq!(clients.len(), 3, "{version}: {spans:#?}");
        clients.sort_by_key(|span| span.start_unix_nanos);
        let attempts = mesh.upstream.take();
        assert_eq!(attempts.len(), 3, "{version}");
        let upstream = mesh.upstream.address();
        for (i, (client, attempt)) in clients.iter().zip(&attempts).enumerate() {
            assert!(client.is_child_of(server), "{version}: {client:#?}");
            assert_eq!(
                traceparent(attempt),
                [TRACE, &client.span_id, "01"],
                "{version}"
            );
            assert_eq!(
                attempt.header_text("x-b3-spanid").as_ref(),
                Some(&client.span_id)
            );
            assert_eq!(
                attempt.header_text("x-b3-parentspanid").as_ref(),
                Some(&server.span_id)
            );
            let port = upstream.port().to_string();
            let resends = i.to_string();
            for (key, value) in [
                ("network.peer.address", Some("127.0.0.1")),
                ("network.peer.port", Some(&*port)),
                (
                    "http.response.status_code",
                    Some(if i < 2 { "503" } else { "200" }),
                ),
                ("http.request.resend_count", (i > 0).then_some(&*resends)),
                ("url.path", Some("/inner/shop")),
                ("upstream_cluster.name", Some("upstream")),
                ("http.request.method", Some("GET")),
            ] {
                assert_eq!(client.attribute(key), value, "{version}: {key} of {i}");
            }
            assert_eq!(client.status_error, i < 2, "{version}: {i}");
            let within = server.start_unix_nanos <= client.start_unix_nanos
                && client.end_unix_nanos <= server.end_unix_nanos;
            assert!(within, "{version}: {server:#?} {client:#?}");
        }
        assert_eq!(server.parent_span_id.as_deref(), Some(SPAN), "{version}");
        assert_eq!(server.attribute("url.path"), Some("/shop"), "{version}");
        assert_eq!(
            server.attribute("upstream_address"),
            Some(&*upstream.to_string())
        );
        assert!(!server.status_error, "{version}");
    }
}

/// Without a span for each attempt that of an outbound listener is the call's.
#[test]
fn the_span_of_an_outbound_listener_is_a_client_span() {
    use envoy_test_harness::config::{Bootstrap, Listener, TrafficDirection};
    use meshtrace_test_support::native::options;
    use meshtrace_test_support::reporting::Collected;

    for envoy in envoys() {
        let manager = manager(tracing(reporting("http/protobuf", "{}")));
        let listener = Listener::http("ingress", manager).direction(TrafficDirection::Outbound);
        let bootstrap = Bootstrap::new().listener(listener);
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options());
        mesh.send(&sampled("/shop?x=1").header("host", "shop:8080"));
        let span = mesh.sink.wait_for_spans(1).expect("a span").remove(0);
        assert_eq!(span.kind, SpanKind::Client);
        assert_eq!(
            span.attribute("url.full"),
            Some("http://shop:8080/shop"),
            "{span:#?}"
        );
        assert_eq!(
            traceparent(&mesh.upstream.take().remove(0)),
            [TRACE, &span.span_id, "01"]
        );
    }
}

/// An authoriser's check is a call of its own: it has a span, and is told it.
#[test]
fn an_authoriser_is_told_the_trace_and_its_check_is_a_span() {
    use envoy_test_harness::Upstream;
    use envoy_test_harness::config::{Bootstrap, Cluster, HttpFilter, Listener};
    use meshtrace_test_support::native::options;
    use meshtrace_test_support::reporting::Collected;
    use serde_json::json;

    for envoy in envoys() {
        let version = envoy.reported_version();
        let authoriser = Upstream::start().expect("an authoriser");
        let check = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
            "http_service": {"server_uri": {
                "uri": "http://authoriser", "cluster": "authoriser", "timeout": "5s",
            }},
        });
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/").cluster("upstream"))
            .filter(HttpFilter::raw("envoy.filters.http.ext_authz", check))
            .filter(export())
            .tracing(tracing(reporting("http/protobuf", "{}")).spawn_upstream_span(true));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1("authoriser", authoriser.address()));
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options());
        let request = sampled("/shop").header("tracestate", "a=1");
        assert_eq!(mesh.send(&request).status, 200, "{version}");
        let spans = mesh.sink.wait_for_spans(3).expect("three spans");
        let check = authoriser.take().remove(0);
        let [trace_id, span_id, flags] = traceparent(&check);
        assert_eq!((&*trace_id, &*flags), (TRACE, "01"), "{version}");
        assert_eq!(check.header_text("tracestate").as_deref(), Some("a=1"));
        let server = of_kind(&spans, SpanKind::Server)[0];
        let span = spans.iter().find(|span| span.span_id == span_id);
        let span = span.unwrap_or_else(|| panic!("{version}: {spans:#?}"));
        assert!(span.is_child_of(server), "{version}: {span:#?}");
        assert!(span.name.contains("authoriser"), "{version}: {span:#?}");
    }
}

/// A mirrored request has the headers of the request as they came. It is told the trace once, and no
/// header that the tracer removes from the request itself.
#[test]
fn a_mirrored_request_is_told_one_context() {
    const OTHER: &str = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1";
    let config = serde_json::json!({
        "trace_context": {
            "incoming": "ignore",
            "extract": ["tracecontext", "b3", "jaeger"],
            "inject": ["tracecontext"],
        },
        "sampling": {"default": "always"},
        "report": {"cluster": "collector"},
    });

    for envoy in envoys() {
        let version = envoy.reported_version();
        let mirror =
            serde_json::json!({"route": {"request_mirror_policies": [{"cluster": "upstream"}]}});
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/").cluster("upstream").merge(mirror))
            .filter(export())
            .tracing(tracing(config.clone()));
        let mesh = start(&envoy, "http/protobuf", manager);
        let request = sampled("/")
            .header("b3", OTHER)
            .header("b3", OTHER)
            .header("uber-trace-id", "1:2:0:1")
            .header("uber-trace-id", "3:4:0:1");
        assert_eq!(mesh.send(&request).status, 200, "{version}");
        let both = mesh.upstream.wait_for_requests(2);
        let both = both.expect("the request and its mirror");
        let trace = &mesh.sink.wait_for_spans(1).expect("a span")[0]
            .trace_id
            .clone();
        assert_ne!(trace, TRACE, "{version}");
        for told in both {
            let [of, ..] = traceparent(&told);
            assert_eq!(of, *trace, "{version}: {told:#?}");
            let lines = |name| told.header_values(name).len();
            assert_eq!(lines("traceparent"), 1, "{version}: {told:#?}");
            for name in ["b3", "uber-trace-id"] {
                assert_eq!(lines(name), 0, "{version}: {name}: {told:#?}");
            }
        }
    }
}

/// Envoy shows a tracer the first line of a header. A further line does not get past the tracer, also
/// where the first one is right already.
#[test]
fn a_decision_leaves_in_one_line_whatever_comes() {
    const TRACE_ID: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    let formats = ["tracecontext", "b3multi", "datadog"];
    for (incoming, sample, first, second) in [
        ("ignore", "never", "0", "1"),
        ("restart", "always", "1", "0"),
        ("continue", "never", "0", "1"),
    ] {
        let config = serde_json::json!({
            "trace_context": {"incoming": incoming, "extract": formats, "inject": formats},
            "sampling": {"default": sample, "parent": "ignore"},
            "report": {"cluster": "collector"},
        });
        for envoy in envoys() {
            let at = format!("{} {incoming}", envoy.reported_version());
            let mesh = start(&envoy, "http/protobuf", manager(tracing(config.clone())));
            let mut request = Request::get("/")
                .header("x-b3-traceid", TRACE_ID)
                .header("x-b3-traceid", "1")
                .header("x-b3-spanid", SPAN);
            for name in ["x-b3-sampled", "x-datadog-sampling-priority"] {
                request = request.header(name, first).header(name, second);
            }
            assert_eq!(mesh.send(&request).status, 200, "{at}");
            let told = mesh.upstream.take().remove(0);
            let [_, _, flags] = traceparent(&told);
            assert_eq!(flags, format!("0{first}"), "{at}");
            for name in ["x-b3-sampled", "x-datadog-sampling-priority"] {
                assert_eq!(told.header_values(name), [first.as_bytes()], "{at}: {name}");
            }
            let traces = told.header_values("x-b3-traceid");
            assert_eq!(traces.len(), 1, "{at}: {traces:?}");
            let is_same = traces == [TRACE_ID.as_bytes()];
            assert_eq!(is_same, incoming == "continue", "{at}: {traces:?}");
        }
    }
}
