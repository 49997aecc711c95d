//! `%TRACE_ID%` and `%SPAN_ID%`: every line names the span that is exported.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use envoy_test_harness::SpanKind;
use envoy_test_harness::client::Request;
use envoy_test_harness::config::{HttpConnectionManager, Route};
use envoy_test_harness::upstream::Reply;
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::native::{envoys, export, manager, start, tracing};
use meshtrace_test_support::promises;
use serde_json::json;

#[test]
fn every_line_has_the_ids_of_the_exported_span() {
    for envoy in envoys() {
        for spawn in [false, true] {
            let what = format!("{} {spawn}", envoy.reported_version());
            let config =
                json!({"sampling": {"default": "always"}, "report": {"cluster": "collector"}});
            let manager = HttpConnectionManager::new()
                .route(Route::prefix("/direct").direct_response(403, "no"))
                .route(Route::prefix("/moved").redirect("/there"))
                .route(
                    Route::prefix("/retried")
                        .cluster("upstream")
                        .retry("5xx", 2),
                )
                .route(Route::prefix("/ok").cluster("upstream"))
                .access_log(
                    json!({"trace": "%TRACE_ID%", "span": "%SPAN_ID%", "path": "%REQ(:PATH)%"}),
                )
                .filter(export())
                .tracing(tracing(config).spawn_upstream_span(spawn));
            let mesh = start(&envoy, "http/protobuf", manager);
            mesh.upstream
                .respond_with(|request| match request.path.as_str() {
                    "/retried" => Reply::status(503),
                    _ => Reply::ok(),
                });
            let paths = ["/ok", "/direct", "/moved", "/retried", "/unknown"];
            let mut connection = mesh.connect();
            for path in paths {
                connection.send(&Request::get(path)).expect("a response");
                let parent = format!("00-{TRACE}-{SPAN}-01");
                let joined = Request::get(path).header("traceparent", parent);
                connection.send(&joined).expect("a response");
            }
            let lines = mesh.envoy.access_log("ingress").wait_for_lines(10);
            let lines = lines.expect("ten lines");
            mesh.sink.wait_for_spans(10).expect("the spans");
            std::thread::sleep(Duration::from_millis(300));
            let spans = mesh.sink.spans();
            let servers: BTreeMap<_, _> = spans
                .iter()
                .filter(|span| span.kind == SpanKind::Server)
                .map(|span| (span.span_id.as_str(), span))
                .collect();
            assert_eq!((lines.len(), servers.len()), (10, 10), "{what}: {spans:#?}");
            for line in &lines {
                let text = |key: &str| line[key].as_str().expect("text");
                let span = servers.get(text("span"));
                let span = span.unwrap_or_else(|| panic!("{what}: {line} {spans:#?}"));
                assert_eq!(span.trace_id, text("trace"), "{what}");
                assert_eq!(span.attribute("url.path"), Some(text("path")), "{what}");
            }
            let joined = lines.iter().filter(|line| line["trace"] == TRACE).count();
            assert_eq!(joined, 5, "{what}");
        }
    }
}

/// A request that Envoy answers before it starts the tracer's span, and the code of the answer.
const UNTRACED: [(&str, &str); 14] = [
    ("GET /a%2fb HTTP/1.1\r\nhost: shop\r\n", "307"),
    ("GET /a#b HTTP/1.1\r\nhost: shop\r\n", "400"),
    ("GET /a%00b HTTP/1.1\r\nhost: shop\r\n", "400"),
    ("GET / HTTP/1.1\r\n", "400"),
    ("GET / HTTP/1.1\r\nhost: shop\r\na_b: 1\r\n", "400"),
    ("GET a HTTP/1.1\r\nhost: shop\r\n", "400"),
    ("no HTTP\r\n", "400"),
    (
        "POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n",
        "400",
    ),
    (
        "GET / HTTP/1.1\r\nhost: shop\r\nconnection: upgrade\r\nupgrade: other\r\n",
        "403",
    ),
    ("OPTIONS * HTTP/1.1\r\nhost: shop\r\n", "404"),
    // Its end does not come.
    ("GET / HTTP/1.1\r\nhost: shop\r\nwait: ", "408"),
    ("GET / HTTP/1.0\r\nhost: shop\r\n", "426"),
    (
        "GET / HTTP/1.1\r\nhost: shop\r\na: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\ne: 5\r\n",
        "431",
    ),
    // With a span.
    ("GET / HTTP/1.1\r\nhost: shop\r\n", "200"),
];

#[test]
fn an_answer_before_the_span_has_no_ids_in_its_line() {
    let count = UNTRACED.len();
    for envoy in envoys() {
        let version = envoy.reported_version();
        let config = json!({"sampling": {"default": "always"}, "report": {"cluster": "collector"}});
        let manager = manager(tracing(config))
            .access_log(json!({
                "trace": "%TRACE_ID%", "span": "%SPAN_ID%", "code": "%RESPONSE_CODE%",
                "details": "%RESPONSE_CODE_DETAILS%",
            }))
            .merge(json!({
                "normalize_path": true,
                "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
                "request_headers_timeout": "0.5s",
                "common_http_protocol_options": {
                    "headers_with_underscores_action": "REJECT_REQUEST", "max_headers_count": 5,
                },
            }));
        let mesh = start(&envoy, "http/protobuf", manager);
        for (place, (head, code)) in UNTRACED.into_iter().enumerate() {
            let at = format!("{version} {head:?}");
            let address = mesh.envoy.address("ingress").expect("its address");
            let mut stream = TcpStream::connect(address).expect("a connection");
            let end = if code == "408" { "" } else { "\r\n" };
            let request = format!("{head}{end}");
            stream.write_all(request.as_bytes()).expect("a request");
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).expect(&at);
            let answer = String::from_utf8_lossy(&answer);
            assert_eq!(answer.get(9..), Some(code), "{at}: {answer}");
            drop(stream);
            let lines = mesh.envoy.access_log("ingress").wait_for_lines(place + 1);
            let lines = lines.expect(&at);
            let line = &lines[place];
            for key in ["trace", "span"] {
                assert_eq!(line[key].is_null(), code != "200", "{at}: {line}");
            }
        }
        mesh.sink.wait_for_spans(1).expect("the last one's");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(mesh.sink.spans().len(), 1, "{version}");
    }
    promises::held(
        "Access log",
        "A request that Envoy answers before it starts the native tracer's span has no span and no ids in its line",
        "escaped slashes, rejected paths, `OPTIONS *`, an upgrade, the time for headers, HTTP/1.0, headers, no host, no HTTP",
        &format!("{} requests a version, 3 versions", count - 1),
    );
}
