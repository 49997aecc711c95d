//! A client that goes away, on either host.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::Reply;
use envoy_test_harness::{SpanKind, Upstream, expect};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::host::{Host, each_host};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::reporting;
use serde_json::json;

/// The upstream did not answer in time for this client: to the caller of the upstream that is a
/// failure, to the server's side it is none. What was answered before is no failure.
#[test]
fn a_call_whose_client_goes_away_is_an_error_until_it_is_answered() {
    each_host(|host, envoy, name| {
        let server = Upstream::start().expect("a server");
        server.respond_with(|request| match &*request.path {
            path if path.ends_with("stalled") => Reply::ok().body("part").stall(),
            _ => Reply::ok().delay(Duration::from_secs(3600)),
        });
        let manager = ["http1", "http2"].into_iter().fold(
            HttpConnectionManager::new(),
            |manager, cluster| {
                manager.route(Route::prefix(&format!("/{cluster}/")).cluster(cluster))
            },
        );
        let manager = match host {
            Host::Wasm => host.trace(
                manager,
                reporting("http/protobuf", r#"{"role": "gateway"}"#),
            ),
            Host::Native => host
                .trace(manager, reporting("http/protobuf", "{}"))
                .merge(json!({"tracing": {"spawn_upstream_span": true}})),
        };
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1("http1", server.address()))
            .cluster(Cluster::http2("http2", server.address()));
        let mesh = host.start_with(envoy, "http/protobuf", bootstrap);
        for (path, status, error) in [
            ("/http1/silent", None, Some("DC")),
            ("/http2/silent", None, Some("DC")),
            ("/http1/stalled", Some("200"), None),
            ("/http2/stalled", Some("200"), None),
        ] {
            let at = format!("{name} {path}");
            let address = mesh.envoy.address("ingress").expect("its address");
            let mut stream = TcpStream::connect(address).expect("a connection");
            write!(
                stream,
                "GET {path} HTTP/1.1\r\nhost: shop\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\n\r\n"
            )
            .expect("a request");
            server.wait_for_requests(1).expect("a request");
            server.take();
            if status.is_some() {
                let mut answer: Vec<u8> = Vec::new();
                while !answer.windows(4).any(|part| part == b"part") {
                    let mut part = [0; 256];
                    let length = stream.read(&mut part).expect("an answer");
                    assert_ne!(length, 0, "{at}");
                    answer.extend(&part[..length]);
                }
            }
            drop(stream);
            let spans = mesh.sink.wait_for_spans(2).expect("two spans");
            mesh.sink.clear();
            for (kind, error) in [(SpanKind::Server, None), (SpanKind::Client, error)] {
                let span = expect::span().of_kind(kind).at(&at).find_in(&spans);
                let told = |key| span.attribute(key);
                assert_eq!(told("http.response.status_code"), status, "{at}: {span:#?}");
                assert_eq!(told("error.type"), error, "{at}: {span:#?}");
                assert_eq!(told("response_flags"), Some("DC"), "{at}: {span:#?}");
                assert_eq!(span.status_error, error.is_some(), "{at}: {span:#?}");
            }
        }
    });
    promises::held(
        "Spans",
        "A CLIENT span whose client went away is an error until the upstream has begun its answer",
        "HTTP/1.1 and HTTP/2 upstreams, silent and in the body, both hosts",
        "4 requests a version, 4 versions with the filter and 3 with the native tracer",
    );
}
