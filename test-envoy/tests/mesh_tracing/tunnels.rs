//! Tunnels (WebSocket, other upgrades, CONNECT, and HTTP/2's extended CONNECT): closed at either
//! end, none is an error.
//!
//! Envoy's own OpenTelemetry tracer decides: it tags no error where a tunnel's end closes it. The status
//! that opened the tunnel is that of RFC 9110, section 15.2.2, and RFC 8441, section 5.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::{RecordedRequest, Reply};
use envoy_test_harness::{Envoy, EnvoyBinary, SpanKind, Upstream, each_supported};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, mesh_tracing, reporting};
use serde_json::{Value, json};

const GREETING: &str = "from the server";

/// What asks for a tunnel, and the status that opens it.
const KINDS: [(&str, &str); 4] = [
    ("websocket", "101"),
    ("tcp", "101"),
    // To a server that speaks HTTP, and to one that does not.
    ("CONNECT", "200"),
    ("CONNECT terminated", "200"),
];

fn answer(request: &RecordedRequest) -> Reply {
    let is_connect = request.method == "CONNECT";
    let reply = match is_connect {
        // Over HTTP/2 all of them are CONNECT and 200.
        true => Reply::ok(),
        false => Reply::status(101).header("connection", "upgrade").header(
            "upgrade",
            request.header_text("upgrade").unwrap_or_default(),
        ),
    };
    let reply = reply.body(GREETING);
    match request.header_text("x-closes").as_deref() {
        Some("server") => reply.close(),
        _ => reply,
    }
}

/// Greets whoever connects, and closes: first where `x-closes` cannot tell it, so by its port.
fn raw_server(closes_first: bool) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                // Who went away needs no greeting.
                let _ = stream.write_all(GREETING.as_bytes());
                if closes_first {
                    thread::sleep(Duration::from_millis(100));
                    return;
                }
                let _ = stream.read_to_end(&mut Vec::new());
            });
        }
    });
    address
}

fn tunnelling() -> Value {
    let kinds = ["websocket", "tcp", "CONNECT"].map(|kind| json!({"upgrade_type": kind}));
    json!({"upgrade_configs": kinds, "http2_protocol_options": {"allow_connect": true}})
}

fn http2(name: &str, address: SocketAddr) -> Cluster {
    Cluster::http2(name, address).merge(json!({"typed_extension_protocol_options": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "explicit_http_config": {"http2_protocol_options": {"allow_connect": true}}}}}))
}

/// Everything to the cluster that `x-to` names.
fn manager() -> HttpConnectionManager {
    let connect = || Route::matching(json!({"connect_matcher": {}}));
    let to_header = json!({"cluster_header": "x-to", "timeout": "0s"});
    let terminated = ["raw-server", "raw-client"].map(|name| {
        connect()
            .header("x-to", name)
            .cluster(name)
            .merge(json!({"route": {"upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}))
    });
    let manager = HttpConnectionManager::new().merge(tunnelling());
    let manager = terminated
        .into_iter()
        .fold(manager, HttpConnectionManager::route);
    manager
        .route(connect().action("route", to_header.clone()))
        .route(Route::prefix("/").action("route", to_header))
}

/// `bootstrap`, and the clusters that `x-to` can name.
fn start(envoy: &EnvoyBinary, bootstrap: Bootstrap, server: &Upstream) -> Collected {
    let bootstrap = bootstrap
        .cluster(Cluster::http1("http1", server.address()))
        .cluster(http2("http2", server.address()))
        .cluster(Cluster::http1("raw-server", raw_server(true)))
        .cluster(Cluster::http1("raw-client", raw_server(false)));
    Collected::with(envoy, "http/protobuf", bootstrap)
}

/// An Envoy in front, which hands its tunnels on over HTTP/2.
fn front(binary: &EnvoyBinary, back: SocketAddr) -> Envoy {
    let manager = HttpConnectionManager::new()
        .merge(tunnelling())
        .route(Route::matching(json!({"connect_matcher": {}})).cluster("back"))
        .route(Route::prefix("/").cluster("back").timeout(Duration::ZERO));
    let bootstrap = Bootstrap::new()
        .listener(Listener::http("front", manager))
        .cluster(http2("back", back));
    Envoy::start(binary, bootstrap).expect("an Envoy that starts")
}

/// Opens a tunnel, reads the greeting, and closes it or waits for its end.
fn tunnel(address: SocketAddr, kind: &str, to: &str, closes: &str, flags: &str) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let limit = Some(envoy_test_harness::WAIT_LIMIT);
    stream.set_read_timeout(limit).expect("a limit");
    let start = match kind.starts_with("CONNECT") {
        true => "CONNECT server.example:80 HTTP/1.1\r\nhost: server.example:80".to_owned(),
        false => format!(
            "GET /tunnel HTTP/1.1\r\nhost: server.example\r\nconnection: upgrade\r\nupgrade: {kind}"
        ),
    };
    let request = format!(
        "{start}\r\nx-to: {to}\r\nx-closes: {closes}\r\ntraceparent: 00-{TRACE}-{SPAN}-{flags}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut read = String::new();
    let mut buffer = [0; 1024];
    while !read.contains(GREETING) {
        let length = stream.read(&mut buffer).expect("bytes");
        assert!(length > 0, "{kind} {to} {closes}: {read}");
        read.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    if closes == "server" {
        // Half of it may stay open until this half is closed too; and a reset is an end.
        let limit = Some(Duration::from_millis(300));
        stream.set_read_timeout(limit).expect("a limit");
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

#[test]
fn a_tunnel_that_is_closed_at_either_end_is_no_error() {
    let mut tried = 0;
    each_supported(|envoy| {
        let server = Upstream::start().expect("a server");
        server.respond_with(answer);
        let listener = |role: &str| {
            let report = json!({"role": role, "keep": {"slower_than_ms": 1}}).to_string();
            let filter = mesh_tracing(reporting("http/protobuf", &report));
            Listener::http(role, manager().filter(filter))
        };
        let bootstrap = Bootstrap::new()
            .listener(listener("gateway"))
            .listener(listener("client"))
            .listener(listener("server"));
        let mesh = start(envoy, bootstrap, &server);
        for (role, count) in [("gateway", 2), ("client", 1), ("server", 1)] {
            let back = mesh.envoy.address(role).expect("its address");
            let front = front(envoy, back);
            let front = front.address("front").expect("its address");
            for (door, protocol) in [(back, "HTTP/1.1"), (front, "HTTP/2")] {
                // Of one role alone over both.
                if role != "gateway" && protocol == "HTTP/2" {
                    continue;
                }
                for (kind, status) in KINDS {
                    let upstreams: &[&str] = match kind {
                        "CONNECT terminated" => &["raw-"],
                        _ => &["http1", "http2"],
                    };
                    for upstream in upstreams {
                        for closes in ["server", "client"] {
                            let to = match *upstream {
                                "raw-" => format!("raw-{closes}"),
                                upstream => upstream.to_owned(),
                            };
                            let at = format!(
                                "{} {role} {protocol} {kind} {to} {closes}",
                                envoy.reported_version()
                            );
                            tunnel(door, kind, &to, closes, "01");
                            let spans = mesh.sink.wait_for_spans(count).expect(&at);
                            mesh.sink.clear();
                            for span in &spans {
                                let told = |key| span.attribute(key);
                                assert_eq!(
                                    told("http.response.status_code"),
                                    Some(status),
                                    "{at}: {span:#?}"
                                );
                                assert_eq!(told("error.type"), None, "{at}: {span:#?}");
                                assert!(!span.status_error, "{at}");
                            }
                            let of_client =
                                spans.iter().filter(|span| span.kind == SpanKind::Client);
                            assert_eq!(of_client.count(), usize::from(role != "server"), "{at}");

                            // Nor is one kept that is not sampled.
                            tunnel(door, kind, &to, closes, "00");
                            tried += 2;
                        }
                    }
                }
            }
        }
        thread::sleep(Duration::from_millis(300));
        let at = envoy.reported_version();
        assert_eq!(mesh.counter("report.kept"), 0, "{at}");
        assert!(mesh.sink.spans().is_empty(), "{at}");
        assert_eq!(mesh.counter("host_errors"), 0, "{at}");
    });
    let versions = EnvoyBinary::SUPPORTED.len();
    promises::held(
        "Spans",
        "A tunnel that is closed at either end is no error, and has the status that opened it",
        "WebSocket, another upgrade, CONNECT forwarded and terminated; HTTP/1.1 and HTTP/2 on both sides; closed by \
         server and client; roles gateway, client and server; sampled and not",
        &format!(
            "{} tunnels a version, {versions} versions",
            tried / versions
        ),
    );
}

/// An upgrade that the upstream refuses, or does not live to answer, is a request as any other.
#[test]
fn a_tunnel_that_was_never_opened_is_told_as_any_request() {
    each_supported(|envoy| {
        let server = Upstream::start().expect("a server");
        server.respond_with(|request| match request.header_text("x-closes").as_deref() {
            Some("refuses") => Reply::status(403),
            _ => Reply::reset(),
        });
        let filter = mesh_tracing(reporting("http/protobuf", r#"{"role": "gateway"}"#));
        let bootstrap =
            Bootstrap::new().listener(Listener::http("gateway", manager().filter(filter)));
        let mesh = start(envoy, bootstrap, &server);
        let door = mesh.envoy.address("gateway").expect("its address");
        for to in ["http1", "http2"] {
            for (closes, status, error) in [("refuses", Some("403"), "403"), ("dies", None, "U")] {
                let at = format!("{} {to} {closes}", envoy.reported_version());
                let mut stream = TcpStream::connect(door).expect("a connection");
                write!(
                    stream,
                    "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nx-to: {to}\r\n\
                     x-closes: {closes}\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\n\r\n"
                )
                .expect("a request");
                let spans = mesh.sink.wait_for_spans(2).expect(&at);
                mesh.sink.clear();
                let client = spans.iter().find(|span| span.kind == SpanKind::Client);
                let client = client.expect("a CLIENT span");
                assert_eq!(
                    client.attribute("http.response.status_code"),
                    status,
                    "{at}"
                );
                let told = client.attribute("error.type").unwrap_or_default();
                assert!(told.starts_with(error), "{at}: {told}");
                drop(stream);
            }
        }
    });
}
