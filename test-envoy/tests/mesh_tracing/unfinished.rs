//! Answers that are not whole: informational responses alone, answers that were cut, and clients
//! that went away. A span has the status of a final response, and no other.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route,
};
use envoy_test_harness::upstream::Reply;
use envoy_test_harness::{EnvoyBinary, Span, SpanKind, Upstream, each_supported, expect};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::http2::Client;
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, mesh_tracing, reporting};
use serde_json::json;

/// Begins an answer by the path, and closes the connection, or waits until Envoy does.
fn begin(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut bytes = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut bytes) {
            Ok(count @ 1..) => request.extend_from_slice(&bytes[..count]),
            _ => return,
        }
    }
    let is_for = |path: &str| {
        request
            .windows(path.len())
            .any(|part| part == path.as_bytes())
    };
    let answer: &[u8] = match () {
        () if is_for(" /hints") => b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n",
        () if is_for(" /continue") => b"HTTP/1.1 100 Continue\r\n\r\n",
        () if is_for(" /below") => b"HTTP/1.1 099 Below\r\ncontent-length: 0\r\n\r\n",
        () => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart",
    };
    let _ = stream.write_all(answer);
    if is_for("/wait") {
        let _ = stream.read_to_end(&mut Vec::new());
    }
    thread::sleep(Duration::from_millis(100));
}

fn server() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || begin(stream));
        }
    });
    address
}

const ROLES: [&str; 3] = ["server", "client", "gateway"];

/// A listener for each role; and for each role one with a filter behind that holds the answer.
fn start(envoy: &EnvoyBinary) -> Collected {
    let holds = "function envoy_on_response(handle) handle:body() end";
    let listener = |role: &str, is_held: bool| {
        let config = reporting("http/protobuf", &json!({"role": role}).to_string());
        let mut manager = HttpConnectionManager::new()
            .route(Route::prefix("/").cluster("server"))
            .merge(json!({"proxy_100_continue": true}))
            .filter(mesh_tracing(config));
        if is_held {
            manager = manager.filter(HttpFilter::lua("holds", holds));
        }
        let prefix = if is_held { "held-" } else { "" };
        Listener::http(&format!("{prefix}{role}"), manager)
    };
    let bootstrap = ROLES.into_iter().fold(Bootstrap::new(), |all, role| {
        all.listener(listener(role, false))
            .listener(listener(role, true))
    });
    let bootstrap = bootstrap.cluster(Cluster::http1("server", server()));
    Collected::with(envoy, "http/protobuf", bootstrap)
}

fn spans(mesh: &Collected, role: &str) -> Vec<Span> {
    let count = if role == "gateway" { 2 } else { 1 };
    let spans = mesh.sink.wait_for_spans(count).expect("the spans");
    mesh.sink.clear();
    spans
}

#[test]
fn an_answer_of_envoys_own_is_no_status_of_the_upstream() {
    each_supported(|envoy| {
        let mesh = start(envoy);
        // The status of the SERVER span, and of the CLIENT span. A held answer is seen by nobody.
        for (listener, path, of_server, of_client) in [
            ("", "/hints", Some("503"), None),
            ("", "/cut", Some("200"), Some("200")),
            ("held-", "/hints", Some("503"), None),
            ("held-", "/cut", Some("502"), None),
        ] {
            for role in ROLES {
                for flags in ["01", "00"] {
                    let at = format!(
                        "{} {listener}{role} {path} {flags}",
                        envoy.reported_version()
                    );
                    let name = format!("{listener}{role}");
                    let address = mesh.envoy.address(&name).expect("its address");
                    let _ = Request::get(path)
                        .header("traceparent", format!("00-{TRACE}-{SPAN}-{flags}"))
                        .send(address);
                    for span in spans(&mesh, role) {
                        let told = |key| span.attribute(key);
                        let flags = told("response_flags");
                        assert!(matches!(flags, Some("UC" | "UPE")), "{at}: {span:#?}");
                        let status = match span.kind {
                            SpanKind::Client => of_client,
                            _ => of_server,
                        };
                        // The upstream failed, whatever it had sent.
                        let error = status.filter(|status| *status != "200").or(flags);
                        assert_eq!(told("http.response.status_code"), status, "{at}: {span:#?}");
                        assert_eq!(told("error.type"), error, "{at}: {span:#?}");
                    }
                }
            }
        }
        mesh.assert_sound(envoy.reported_version());
    });
    promises::held(
        "Spans",
        "An answer that Envoy gives in place of the upstream's is no status of the CLIENT span, after an informational \
         response too",
        "103 and a cut answer, held by a filter behind and not, three roles, sampled and kept",
        "24 requests a version, 4 versions",
    );
}

#[test]
fn an_informational_response_is_no_status_of_a_span() {
    each_supported(|envoy| {
        let mesh = start(envoy);
        for role in ROLES {
            let at = format!("{} {role}", envoy.reported_version());
            let address = mesh.envoy.address(role).expect("its address");
            let mut stream = TcpStream::connect(address).expect("a connection");
            write!(
                stream,
                "POST /continue/wait HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n\
                 traceparent: 00-{TRACE}-{SPAN}-01\r\ncontent-length: 4\r\n\r\n"
            )
            .expect("a request");
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).expect("an answer");
            assert_eq!(&answer, b"HTTP/1.1 100", "{at}");
            drop(stream);
            for span in spans(&mesh, role) {
                let told = |key| span.attribute(key);
                assert_eq!(told("http.response.status_code"), None, "{at}: {span:#?}");
                // The upstream had not begun its answer.
                let is_error = span.kind == SpanKind::Client;
                assert_eq!(told("error.type"), is_error.then_some("DC"), "{at}");
            }
        }
    });
}

/// Envoy passes such an answer on. Its code says nothing, and neither do Envoy's details.
#[test]
fn a_code_below_100_is_no_status_of_a_span() {
    each_supported(|envoy| {
        let mesh = start(envoy);
        for role in ROLES {
            let at = format!("{} {role}", envoy.reported_version());
            let address = mesh.envoy.address(role).expect("its address");
            let _ = Request::get("/below")
                .header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
                .send(address);
            for span in spans(&mesh, role) {
                let told = |key| span.attribute(key);
                assert_eq!(told("http.response.status_code"), None, "{at}: {span:#?}");
                assert_eq!(told("error.type"), Some("_OTHER"), "{at}: {span:#?}");
            }
        }
    });
}

#[test]
fn a_client_that_leaves_a_stream_of_grpc_is_no_error() {
    each_supported(|envoy| {
        let upstream = Upstream::start().expect("a server");
        upstream.respond_with(|_| {
            let answer = Reply::ok().header("content-type", "application/grpc");
            answer.body([0, 0, 0, 0, 0]).stall()
        });
        let listener = |role: &str| {
            let config = reporting("http/protobuf", &json!({"role": role}).to_string());
            let manager = HttpConnectionManager::new()
                .route(Route::prefix("/").cluster("streams"))
                .filter(mesh_tracing(config));
            Listener::http(role, manager)
        };
        let bootstrap = ROLES
            .into_iter()
            .fold(Bootstrap::new(), |all, role| all.listener(listener(role)));
        let bootstrap = bootstrap.cluster(Cluster::http2("streams", upstream.address()));
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        for role in ROLES {
            for (flag, closes) in [("DR", false), ("DC", true)] {
                let at = format!("{} {role} {flag}", envoy.reported_version());
                let mut client = Client::new(mesh.envoy.address(role).expect("its address"));
                let traceparent = format!("00-{TRACE}-{SPAN}-01");
                let headers = [
                    ("content-type", "application/grpc"),
                    ("te", "trailers"),
                    ("traceparent", &traceparent),
                ];
                let stream = client.begin("POST", "/shop.v1.Cart/Watch", &headers);
                match closes {
                    true => drop(client),
                    false => drop(stream),
                }
                for span in spans(&mesh, role) {
                    let told = |key| span.attribute(key);
                    assert_eq!(told("response_flags"), Some(flag), "{at}: {span:#?}");
                    assert_eq!(told("http.response.status_code"), Some("200"), "{at}");
                    assert_eq!(told("rpc.response.status_code"), None, "{at}: {span:#?}");
                    assert_eq!(told("error.type"), None, "{at}: {span:#?}");
                    assert!(!span.status_error, "{at}: {span:#?}");
                }
            }
        }
    });
    promises::held(
        "Spans",
        "A client that leaves a stream of gRPC is no error, and no status is made up for the stream",
        "The stream reset and the connection closed after a message, three roles",
        "6 streams a version, 4 versions",
    );
}

/// The name and the error agree for a code that gRPC does not have.
#[test]
fn a_status_that_grpc_does_not_have_is_an_unknown_error() {
    each_supported(|envoy| {
        let upstream = Upstream::start().expect("a server");
        upstream.respond_with(|request| {
            let status = request
                .path
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_owned();
            let answer = Reply::ok().header("content-type", "application/grpc");
            answer.body([0, 0, 0, 0, 0]).trailer("grpc-status", status)
        });
        let config = reporting("http/protobuf", r#"{"role": "gateway"}"#);
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/").cluster("calls"))
            .filter(mesh_tracing(config));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http2("calls", upstream.address()));
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        for status in ["2", "17", "99"] {
            for flags in ["01", "00"] {
                let at = format!("{} {status} {flags}", envoy.reported_version());
                let call = Request::post(&format!("/shop.v1.Cart/{status}"), [0, 0, 0, 0, 0])
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .header("traceparent", format!("00-{TRACE}-{SPAN}-{flags}"));
                mesh.send(&call);
                for span in spans(&mesh, "gateway") {
                    let expected = expect::span()
                        .with("rpc.response.status_code", "UNKNOWN")
                        .with("error.type", "UNKNOWN")
                        .with_error(true)
                        .at(&at);
                    expected.find_in(&[span]);
                }
            }
        }
    });
}
