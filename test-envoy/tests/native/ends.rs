//! What the CLIENT span of an attempt says of its end.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, TrafficDirection,
};
use envoy_test_harness::upstream::Reply;
use envoy_test_harness::{EnvoyBinary, Span, SpanKind, Upstream};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::ends::{CALLS, answer, routes, send_in};
use meshtrace_test_support::host::Host;
use meshtrace_test_support::native::{envoys, export, options, tracing};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, reporting};
use serde_json::json;

const LONG: Duration = Duration::from_secs(3600);

fn manager(routes: Vec<Route>) -> HttpConnectionManager {
    let config = reporting("http/protobuf", r#"{"keep": {"per_second": 1000}}"#);
    let manager = HttpConnectionManager::new()
        .filter(export())
        .tracing(tracing(config).spawn_upstream_span(true));
    routes
        .into_iter()
        .fold(manager, HttpConnectionManager::route)
}

fn mesh(envoy: &EnvoyBinary, manager: HttpConnectionManager, clusters: Vec<Cluster>) -> Collected {
    let bootstrap = Bootstrap::new().listener(Listener::http("ingress", manager));
    let bootstrap = clusters.into_iter().fold(bootstrap, Bootstrap::cluster);
    Collected::on(Host::Native, envoy, "http/protobuf", bootstrap, options())
}

/// The CLIENT spans of a trace, in the order of the attempts.
pub(crate) fn attempts<'a>(spans: &'a [Span], trace: &str) -> Vec<&'a Span> {
    let is_attempt = |span: &&Span| span.kind == SpanKind::Client && span.trace_id == trace;
    let mut attempts: Vec<_> = spans.iter().filter(is_attempt).collect();
    attempts.sort_by_key(|span| span.start_unix_nanos);
    attempts
}

fn sampled(path: &str) -> Request {
    Request::get(path).header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
}

/// `error.type` of the last attempt, where the status of its answer is not its error.
fn error_of(call: &str) -> Option<&'static str> {
    match call {
        "timeout/stalled" | "timeout/silent" | "per-try/silent" | "per-try/falls-silent" => {
            Some("UT")
        }
        "idle/silent" => Some("SI"),
        "longest/silent" | "grpc/silent" => Some("timeout"),
        // Envoy does not tell a tracer that the time was over.
        "grpc/stalled" => Some("canceled"),
        _ => None,
    }
}

/// Each of the ways in which a call of the Wasm filter's test ends.
#[test]
fn the_last_attempt_has_the_status_and_the_error_of_the_filters_client_span() {
    for envoy in envoys() {
        let server = Upstream::start().expect("a server");
        server.respond_with(answer);
        let retries = json!({"circuit_breakers": {"thresholds": [{"max_retries": 1000}]}});
        let clusters = vec![
            Cluster::http1("http1", server.address()).merge(retries.clone()),
            Cluster::http2("http2", server.address()).merge(retries),
        ];
        let manager = manager(["http1", "http2"].map(routes).concat())
            .virtual_host(json!({"include_request_attempt_count": true}));
        let mesh = mesh(&envoy, manager, clusters);
        let calls: Vec<_> = ["http1", "http2"]
            .into_iter()
            .flat_map(|cluster| CALLS.map(|call| (cluster, call)))
            .flat_map(|(cluster, call)| ["01", "00"].map(|flags| (cluster, call, flags)))
            .zip(1_u128..)
            .collect();
        thread::scope(|scope| {
            for ((cluster, (call, ..), flags), id) in &calls {
                let (path, trace) = (format!("/{cluster}/{call}"), format!("{id:032x}"));
                let mesh = &mesh;
                scope.spawn(move || send_in(mesh, "ingress", &path, &trace, flags));
            }
        });
        let kept = usize::try_from(mesh.counter("report.kept")).expect("a number");
        assert!(kept > 20, "{kept}");
        mesh.sink
            .wait_for_spans(2 * (calls.len() / 2 + kept))
            .expect("the spans");
        thread::sleep(Duration::from_millis(500));
        let spans = mesh.sink.spans();
        for ((cluster, (call, status, is_error), flags), id) in &calls {
            let at = format!("{} {cluster} {call} {flags}", envoy.reported_version());
            let attempts = attempts(&spans, &format!("{id:032x}"));
            let Some(last) = attempts.last() else {
                assert_eq!(*flags, "00", "{at}");
                continue;
            };
            if *call == "grpc/stalled" {
                let mut all = spans.iter().filter(|span| span.trace_id == last.trace_id);
                let without = all.all(|span| span.attribute("rpc.response.status_code").is_none());
                assert!(without, "{at}");
            }
            let told = last.attribute("http.response.status_code");
            assert_eq!(told, *status, "{at}: {last:#?}");
            assert_eq!(last.status_error, *is_error, "{at}: {last:#?}");
            let error = last.attribute("error.type");
            assert_eq!(error.is_some(), *is_error, "{at}: {error:?}");
            match error_of(call) {
                None => assert!(!matches!(error, Some("_OTHER" | "canceled")), "{at}"),
                expected => assert_eq!(error, expected, "{at}: {last:#?}"),
            }
        }
        assert_eq!(mesh.counter("panics"), 0);
    }
    promises::held(
        "Spans",
        "The native tracer's CLIENT span of a call that Envoy ended is an error, and says why",
        "18 ways to end (answers, cuts, six limits of time, retries), HTTP/1.1 and HTTP/2 upstreams, sampled and kept",
        "72 requests a version, 3 versions",
    );
}

/// Without spans of attempts, the span of an outbound listener has the upstream's status beside flags
/// that do not come with an answer of Envoy's own. No flag is set where `max_stream_duration` ends a
/// call: the status of Envoy's answer is then taken for the upstream's.
#[test]
fn the_one_span_of_an_outbound_listener_has_the_status_as_far_as_it_is_told() {
    for envoy in envoys() {
        let server = Upstream::start().expect("a server");
        server.respond_with(answer);
        let manager = HttpConnectionManager::new()
            .filter(export())
            .tracing(tracing(reporting("http/protobuf", "{}")))
            .virtual_host(json!({"include_request_attempt_count": true}));
        let manager = routes("http1")
            .into_iter()
            .fold(manager, HttpConnectionManager::route);
        let listener = Listener::http("ingress", manager).direction(TrafficDirection::Outbound);
        let bootstrap = Bootstrap::new()
            .listener(listener)
            .cluster(Cluster::http1("http1", server.address()));
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options());
        for (call, status, error) in [
            ("retry/fails", Some("503"), Some("503")),
            ("retry/recovers", Some("200"), None),
            ("retry/reset", None, Some("URX,UC")),
            ("timeout/silent", None, Some("UT")),
            ("longest/silent", Some("504"), Some("504")),
        ] {
            let at = format!("{} {call}", envoy.reported_version());
            send_in(&mesh, "ingress", &format!("/http1/{call}"), TRACE, "01");
            let spans = mesh.sink.wait_for_spans(1).expect("a span");
            mesh.sink.clear();
            let told = |key| spans[0].attribute(key);
            assert_eq!(spans[0].kind, SpanKind::Client, "{at}");
            assert_eq!(
                told("http.response.status_code"),
                status,
                "{at}: {spans:#?}"
            );
            assert_eq!(told("error.type"), error, "{at}: {spans:#?}");
        }
    }
}

/// The flags `SI` of an attempt, and of a request without one, tell of different limits. The cluster
/// too may limit how long a call lasts, and the call is then made again.
#[test]
fn every_attempt_that_envoy_ended_is_an_error() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let server = Upstream::start().expect("a server");
        server.respond_with(|request| match &*request.path {
            "/idle/stalled" => Reply::ok().body("part").stall(),
            _ => Reply::ok().delay(LONG),
        });
        let retry = |more: serde_json::Value| {
            let mut policy = json!({"retry_on": "5xx,reset", "num_retries": 1});
            policy
                .as_object_mut()
                .expect("an object")
                .extend(more.as_object().expect("an object").clone());
            json!({"route": {"timeout": "0s", "retry_policy": policy}})
        };
        let hedged = json!({"route": {"timeout": "0.8s", "hedge_policy": {"hedge_on_per_try_timeout": true},
            "retry_policy": {"retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.3s"}}});
        let route = |prefix: &str, cluster: &str| Route::prefix(prefix).cluster(cluster);
        let routes = vec![
            route("/idle/", "server").merge(retry(json!({"per_try_idle_timeout": "0.3s"}))),
            route("/longest/", "longest").merge(retry(json!({}))),
            route("/hedged/", "server").merge(hedged),
        ];
        let longest = json!({"typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"max_stream_duration": "0.3s"},
                "explicit_http_config": {"http_protocol_options": {}}}}});
        let clusters = vec![
            Cluster::http1("server", server.address()),
            Cluster::http1("longest", server.address()).merge(longest),
        ];
        let mesh = mesh(&envoy, manager(routes), clusters);
        for (path, status, expected) in [
            ("/idle/silent", None, vec!["SI", "SI"]),
            ("/idle/stalled", Some("200"), vec!["SI"]),
            ("/longest/silent", None, vec!["canceled", "UMSDR"]),
            ("/hedged/silent", None, vec!["UT", "UT"]),
        ] {
            let at = format!("{version} {path}");
            // An error where the body was cut off.
            let _ = sampled(path).send(mesh.envoy.address("ingress").expect("its address"));
            mesh.sink.wait_for_spans(expected.len() + 1).expect(&at);
            let spans = mesh.sink.spans();
            mesh.sink.clear();
            let attempts = attempts(&spans, TRACE);
            let errors: Vec<_> = attempts
                .iter()
                .filter_map(|span| span.attribute("error.type"))
                .collect();
            assert_eq!(errors, expected, "{at}: {attempts:#?}");
            for attempt in attempts {
                assert!(attempt.status_error, "{at}");
                assert_eq!(
                    attempt.attribute("http.response.status_code"),
                    status,
                    "{at}"
                );
            }
        }
    }
}

/// The client of a hedged request goes away while it reads the answer: the attempt that was beaten is
/// none that the client ended.
#[test]
fn an_attempt_that_was_beaten_is_no_error_whatever_comes_after() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let server = Upstream::start().expect("a server");
        let count = AtomicUsize::new(0);
        server.respond_with(move |_| match count.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::ok()
                .delay(Duration::from_millis(450))
                .body("part")
                .stall(),
            _ => Reply::ok().delay(LONG),
        });
        let hedged = json!({"route": {"timeout": "0s", "hedge_policy": {"hedge_on_per_try_timeout": true},
            "retry_policy": {"retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.3s"}}});
        let routes = vec![Route::prefix("/").cluster("server").merge(hedged)];
        let clusters = vec![Cluster::http1("server", server.address())];
        let mesh = mesh(&envoy, manager(routes), clusters);
        let mut stream = open(&mesh, "/shop", "");
        read_until(&mut stream, b"part");
        drop(stream);
        let spans = mesh.sink.wait_for_spans(3).expect("three spans");
        let attempts = attempts(&spans, TRACE);
        let [answered, beaten] = attempts[..] else {
            panic!("{version}: {spans:#?}");
        };
        let told = |span: &Span| {
            let code = span
                .attribute("http.response.status_code")
                .map(str::to_owned);
            (code, span.status_error)
        };
        assert_eq!(
            told(answered),
            (Some("200".to_owned()), false),
            "{version}: {answered:#?}"
        );
        assert_eq!(told(beaten), (None, false), "{version}: {beaten:#?}");
        assert_eq!(beaten.attribute("response_flags"), None, "{version}");
    }
}

/// Begins a request, and does not wait for its answer.
fn open(mesh: &Collected, path: &str, headers: &str) -> TcpStream {
    let address = mesh.envoy.address("ingress").expect("its address");
    let mut stream = TcpStream::connect(address).expect("a connection");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: shop\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\n{headers}\r\n"
    )
    .expect("a request");
    stream
}

pub(crate) fn read_until(stream: &mut TcpStream, end: &[u8]) {
    let mut answer = Vec::new();
    while !answer.ends_with(end) {
        let mut part = [0; 256];
        let length = stream.read(&mut part).expect("an answer");
        assert_ne!(length, 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend(&part[..length]);
    }
}

/// Answers every request with these bytes, and then resets the connection or keeps it.
fn server_of(bytes: &'static str, closes: bool) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(bytes.as_bytes());
                if !closes {
                    let _ = stream.read_to_end(&mut Vec::new());
                }
                thread::sleep(Duration::from_millis(100));
            });
        }
    });
    address
}

/// 100 and 103 are no status of a response, also where nothing follows them.
#[test]
fn an_informational_answer_is_no_status() {
    const EARLY: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    for envoy in envoys() {
        let version = envoy.reported_version();
        let routes =
            ["continue", "early"].map(|name| Route::prefix(&format!("/{name}")).cluster(name));
        let manager = manager(routes.to_vec()).merge(json!({"proxy_100_continue": true}));
        let clusters = vec![
            Cluster::http1(
                "continue",
                server_of("HTTP/1.1 100 Continue\r\n\r\n", false),
            ),
            Cluster::http1("early", server_of(EARLY, true)),
        ];
        let mesh = mesh(&envoy, manager, clusters);
        let told = |spans: &[Span], kind| {
            let span = spans.iter().find(|span| span.kind == kind).expect("a span");
            let of = |key| span.attribute(key).map(str::to_owned);
            (of("http.response.status_code"), of("error.type"))
        };
        let text = |text: &str| Some(text.to_owned());

        let mut stream = open(
            &mesh,
            "/continue",
            "expect: 100-continue\r\ncontent-length: 4\r\n",
        );
        read_until(&mut stream, b"\r\n\r\n");
        drop(stream);
        let spans = mesh.sink.wait_for_spans(2).expect("two spans");
        mesh.sink.clear();
        assert_eq!(told(&spans, SpanKind::Server), (None, None), "{version}");
        assert_eq!(
            told(&spans, SpanKind::Client),
            (None, text("DC")),
            "{version}"
        );

        let answer = sampled("/early").send(mesh.envoy.address("ingress").expect("its address"));
        assert_eq!(answer.expect("an answer").status, 503, "{version}");
        let spans = mesh.sink.wait_for_spans(2).expect("two spans");
        assert_eq!(
            told(&spans, SpanKind::Server),
            (text("503"), text("503")),
            "{version}"
        );
        assert_eq!(
            told(&spans, SpanKind::Client),
            (None, text("UC")),
            "{version}"
        );
    }
}
