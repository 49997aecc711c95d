//! Upgrades: they last as long as their ends like, and being closed is no error.
//!
//! Envoy's own OpenTelemetry tracer decides: it tags no error where a tunnel's end closes it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use envoy_test_harness::SpanKind;
use envoy_test_harness::client::Request;
use envoy_test_harness::upstream::Reply;
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::native::{envoys, manager, start, tracing};
use meshtrace_test_support::reporting::{Collected, traceparent};
use serde_json::json;

/// Opens a tunnel, keeps it for longer than a request may take, and goes away.
fn tunnel(mesh: &Collected, flags: &str) {
    let address = mesh.envoy.address("ingress").expect("its address");
    let mut stream = TcpStream::connect(address).expect("a connection");
    let request = format!(
        "GET /chat HTTP/1.1\r\nhost: shop\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         traceparent: 00-{TRACE}-{SPAN}-{flags}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let mut part = [0; 256];
        let length = stream.read(&mut part).expect("an answer");
        assert_ne!(length, 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend(&part[..length]);
    }
    thread::sleep(Duration::from_millis(200));
}

#[test]
fn a_tunnel_is_neither_slow_nor_an_error() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let config = json!({
            "report": {"cluster": "collector", "keep": {"errors": true, "slower_than_ms": 100}},
        });
        let manager = manager(tracing(config).spawn_upstream_span(true))
            .merge(json!({"upgrade_configs": [{"upgrade_type": "websocket"}]}));
        let mesh = start(&envoy, "http/protobuf", manager);
        mesh.upstream.respond_with(|request| {
            if request.header("upgrade").is_none() {
                return Reply::ok();
            }
            let reply = Reply::status(101).header("connection", "upgrade");
            reply.header("upgrade", "websocket").body("hello")
        });
        tunnel(&mesh, "00");
        tunnel(&mesh, "01");
        let spans = mesh.sink.wait_for_spans(2).expect("two spans");
        // What is not sampled would come now at the latest.
        thread::sleep(Duration::from_millis(300));
        assert_eq!(mesh.sink.spans().len(), 2, "{version}: {spans:#?}");
        for span in &spans {
            let what = format!("{version}: {span:#?}");
            let code = span.attribute("http.response.status_code");
            assert_eq!((code, span.status_error), (Some("101"), false), "{what}");
        }
        let attempts = mesh.upstream.take();
        let [_, span_id, flags] = traceparent(&attempts[1]);
        assert!(spans.iter().any(|span| span.span_id == span_id));
        assert_eq!(flags, "01", "{version}");
        assert_eq!(mesh.counter("report.kept"), 0, "{version}");
    }
}

/// An upstream that does not switch protocols has answered all the same.
#[test]
fn the_answer_to_an_upgrade_that_was_not_made_is_the_calls() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let config = json!({"report": {"cluster": "collector"}});
        let manager = manager(tracing(config).spawn_upstream_span(true))
            .merge(json!({"upgrade_configs": [{"upgrade_type": "websocket"}]}));
        let mesh = start(&envoy, "http/protobuf", manager);
        for (status, is_error) in [(200, false), (302, false), (403, true), (503, true)] {
            let at = format!("{version} {status}");
            mesh.upstream.respond_with(move |_| Reply::status(status));
            let request = Request::get("/chat")
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
                .header("traceparent", format!("00-{TRACE}-{SPAN}-01"));
            let address = mesh.envoy.address("ingress").expect("its address");
            assert_eq!(request.send(address).expect(&at).status, status, "{at}");
            let spans = mesh.sink.wait_for_spans(2).expect("two spans");
            mesh.sink.clear();
            for span in &spans {
                let code = span.attribute("http.response.status_code");
                assert_eq!(code, Some(&*status.to_string()), "{at}: {span:#?}");
            }
            let client = spans.iter().find(|span| span.kind == SpanKind::Client);
            assert_eq!(client.expect("a span").status_error, is_error, "{at}");
        }
    }
}
