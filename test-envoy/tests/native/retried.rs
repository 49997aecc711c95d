//! When the span of an attempt is exported that failed and was made again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::{RecordedRequest, Reply};
use envoy_test_harness::{EnvoyBinary, Span, SpanKind, Upstream};
use meshtrace_test_support::common::SPAN;
use meshtrace_test_support::host::Host;
use meshtrace_test_support::native::{envoys, export, options, tracing};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, reporting};
use serde_json::json;

use crate::ends::{attempts, read_until};

const STREAM: &str = "0000000000000000000000000000000a";
const KEPT: &str = "0000000000000000000000000000000b";
const OTHER: &str = "0000000000000000000000000000000c";
/// Longer than a span waits before it is sent.
const WHILE: Duration = Duration::from_millis(1500);

/// Two attempts fail. The third one streams, or fails too. With hedging the first one has no answer.
fn answer(request: &RecordedRequest) -> Reply {
    let number = request.header_text("x-envoy-attempt-count");
    match (&*request.path, number.as_deref()) {
        ("/hedged", Some("1")) => Reply::ok().delay(Duration::from_secs(3600)),
        ("/fails", _) | (_, Some("1" | "2")) => Reply::status(503).body("no"),
        _ => Reply::ok().body("part").stall(),
    }
}

fn mesh(envoy: &EnvoyBinary, server: &Upstream) -> Collected {
    server.respond_with(answer);
    let address = server.address();
    let endpoint = json!({"endpoint": {"hostname": "a.host", "address": {"socket_address": {
        "address": "127.0.0.1", "port_value": address.port()}}}});
    let cluster = Cluster::http1("server", address).merge(json!({
        "load_assignment": {"cluster_name": "server", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }));
    let retry = json!({"retry_on": "5xx", "num_retries": 2,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.001s"}});
    let mut hedging = retry.clone();
    hedging["per_try_timeout"] = json!("0.3s");
    let route = |prefix: &str, more| Route::prefix(prefix).cluster("server").merge(more);
    let manager = HttpConnectionManager::new()
        .route(route(
            "/hedged",
            json!({"route": {"timeout": "0s", "retry_policy": hedging,
                "hedge_policy": {"hedge_on_per_try_timeout": true}}}),
        ))
        .route(route(
            "/",
            json!({"route": {"timeout": "0s", "retry_policy": retry, "auto_host_rewrite": true}}),
        ))
        .virtual_host(json!({"include_request_attempt_count": true}))
        .filter(export())
        .tracing(tracing(reporting("http/protobuf", "{}")).spawn_upstream_span(true));
    let bootstrap = Bootstrap::new()
        .listener(Listener::http("ingress", manager))
        .cluster(cluster);
    Collected::on(Host::Native, envoy, "http/protobuf", bootstrap, options())
}

/// Begins a request whose answer streams, and reads the beginning.
fn open(mesh: &Collected, path: &str, (trace, flags): (&str, &str)) -> TcpStream {
    let address = mesh.envoy.address("ingress").expect("its address");
    let mut stream = TcpStream::connect(address).expect("a connection");
    let traceparent = format!("00-{trace}-{SPAN}-{flags}");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: shop\r\ntraceparent: {traceparent}\r\n\r\n"
    )
    .expect("a request");
    read_until(&mut stream, b"part");
    stream
}

/// The spans that are there once `count` have come, and that still are the only ones later.
fn only(mesh: &Collected, count: usize, at: &str) -> Vec<Span> {
    mesh.sink.wait_for_spans(count).expect(at);
    thread::sleep(WHILE);
    let spans = mesh.sink.spans();
    assert_eq!(spans.len(), count, "{at}: {spans:#?}");
    let ids: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), count, "{at}: {spans:#?}");
    spans
}

/// What is said of an attempt, without what differs between any two requests.
fn said(span: &Span) -> (String, String, bool, BTreeMap<String, String>) {
    let mut attributes = span.attributes.clone();
    for id in ["guid:x-request-id", "http.request.header.x-request-id"] {
        attributes.remove(id);
    }
    let path = attributes.remove("url.path").expect("a path");
    let url = attributes.get_mut("url.full").expect("a URL");
    *url = url.replace(&path, "/");
    (
        span.name.clone(),
        span.trace_state.clone(),
        span.status_error,
        attributes,
    )
}

#[test]
fn a_failed_attempt_is_exported_while_the_retried_request_is_open() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let server = Upstream::start().expect("a server");
        let mesh = mesh(&envoy, &server);
        let other = open(&mesh, "/stream", (OTHER, "00"));
        let stream = open(&mesh, "/stream", (STREAM, "01"));

        // What is not sampled waits for what its end decides.
        let spans = only(&mesh, 2, version);
        let early = attempts(&spans, STREAM);
        assert_eq!(early.len(), 2, "{version}: {spans:#?}");
        drop((stream, other));
        let spans = only(&mesh, 4, version);
        let all = attempts(&spans, STREAM);
        let [first, second, last] = all[..] else {
            panic!("{version}: {spans:#?}");
        };
        assert_eq!([first, second].map(said), [early[0], early[1]].map(said));
        assert_eq!(last.attribute("http.response.status_code"), Some("200"));
        let request = spans.iter().find(|span| span.kind == SpanKind::Server);
        let request = request.expect("a SERVER span");
        for attempt in &all {
            assert_eq!(attempt.trace_id, STREAM, "{version}");
            let parent = attempt.parent_span_id.as_ref();
            assert_eq!(parent, Some(&request.span_id), "{version}");
        }
        mesh.sink.clear();

        // The spans of a request that is kept are described at its end.
        let fails = Request::get("/fails").header("traceparent", format!("00-{KEPT}-{SPAN}-00"));
        let fails = fails.header("host", "shop");
        assert_eq!(mesh.send(&fails).status, 503, "{version}");
        let spans = only(&mesh, 4, version);
        let kept = attempts(&spans, KEPT);
        for (early, late) in [first, second].into_iter().zip(kept) {
            assert_eq!(said(early), said(late), "{version}");
            let expected = [("server.address", "a.host"), ("error.type", "503")];
            for (key, value) in expected {
                assert_eq!(early.attribute(key), Some(value), "{version}: {early:#?}");
            }
            assert!(early.status_error, "{version}: {early:#?}");
        }
        assert_eq!(mesh.counter("panics"), 0, "{version}");
    }
    promises::held(
        "Spans",
        "The native tracer exports the span of a failed attempt while the request that was retried is still open",
        "two attempts that answer 503, then a stream that stays open, with auto_host_rewrite; beside it one that is \
         not sampled",
        "two spans while it is open, as at the end of a request that is kept; every span once; 3 versions",
    );
}

/// An attempt beside others may be beaten, so its span waits for the end.
#[test]
fn attempts_beside_each_other_are_exported_at_the_end() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let server = Upstream::start().expect("a server");
        let mesh = mesh(&envoy, &server);
        let stream = open(&mesh, "/hedged", (STREAM, "01"));
        let early = only(&mesh, 0, version);
        drop(stream);
        let spans = only(&mesh, 4, version);
        let told = attempts(&spans, STREAM).into_iter().map(|span| {
            let code = span.attribute("http.response.status_code");
            (code, span.status_error)
        });
        // The first one was too late for its own time.
        let expected = [(None, true), (Some("503"), true), (Some("200"), false)];
        assert_eq!(told.collect::<Vec<_>>(), expected, "{version}: {spans:#?}");
        assert!(early.is_empty());
    }
}
