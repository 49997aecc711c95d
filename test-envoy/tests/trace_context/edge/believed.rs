//! A caller that is believed keeps its context, and which callers a network holds.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, Listener, Route};
use envoy_test_harness::{EnvoyBinary, each_supported};
use meshtrace_render::{Tracer, early_mutation};
use meshtrace_test_support::common::{Mesh, SPAN, TRACE};
use meshtrace_test_support::promises;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::runtime::Builder;

use super::{Callers, Edge, REQUEST_ID, TRACERS};

/// A context that every tracer reads.
const CONTEXT: [(&str, &str); 6] = [
    (
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    ("tracestate", "vendor=1,other=2"),
    ("x-b3-traceid", TRACE),
    ("x-b3-spanid", SPAN),
    ("x-b3-sampled", "1"),
    ("x-request-id", REQUEST_ID),
];

#[test]
fn a_believed_caller_keeps_its_context_and_its_request_id() {
    let by_header = r#"{"incoming": {"mode": "restart", "when": {"header_absent": "X-Known"}}}"#;
    let by_network = r#"{"incoming": {"mode": "ignore", "when": {"not_from_cidrs": ["10.0.0.0/8", "127.0.0.0/8"]}}}"#;
    let elsewhere =
        r#"{"incoming": {"mode": "restart", "when": {"not_from_cidrs": ["10.0.0.0/8"]}}}"#;
    let either = r#"{"incoming": {"mode": "restart",
        "when": {"not_from_cidrs": ["10.0.0.0/8"], "header_absent": "x-known"}}}"#;
    let known = ("x-known", "1");
    let forwarded = ("x-forwarded-for", "10.1.1.1");
    let forged = [
        ("x-meshtrace-early-believed", "1"),
        ("x-meshtrace-early-kept", "1"),
    ];
    let cases: [(&str, &[_], bool); 10] = [
        (by_header, &[known], true),
        (by_header, &[], false),
        (by_header, &forged, false),
        (by_network, &[], true),
        (by_network, &[forwarded], false),
        (elsewhere, &[], false),
        (elsewhere, &[known], false),
        (elsewhere, &[forwarded], false),
        (either, &[known], true),
        (either, &[], false),
    ];
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let mut edge = Edge::start(envoy, &[by_header, by_network, elsewhere, either]);
        let mut sent = Vec::new();
        let mut expected = BTreeMap::new();
        for tracer in TRACERS {
            for callers in [Callers::Unknown, Callers::Internal] {
                for (remedy, more, believed) in cases {
                    let headers: Vec<_> = CONTEXT.iter().chain(more).copied().collect();
                    let passed = edge.send_one(tracer, callers, 100, remedy, &headers);
                    expected.insert(passed.number, tracer);
                    sent.push((passed, believed));
                }
            }
        }
        let spans = edge.spans(&expected);
        for (passed, believed) in sent {
            let told = format!("{version}: {}", passed.told);
            let span = spans.get(&passed.number).expect(&told);
            assert_eq!(span.trace_id == TRACE, believed, "{told}");
            let parent = believed.then_some(SPAN);
            assert_eq!(span.parent_span_id.as_deref(), parent, "{told}");
            let id = passed.left.header_text("x-request-id").expect(&told);
            assert_eq!(id == REQUEST_ID, believed, "{told}");
            let helper =
                |(name, _): &(_, _)| AsRef::<[u8]>::as_ref(name).starts_with(b"x-meshtrace");
            assert!(!passed.left.headers.iter().any(helper), "{told}");
            let state = passed.left.header_text("tracestate").unwrap_or_default();
            assert_eq!(state == "vendor=1,other=2", believed, "{told}");
        }
    });
}

/// The same context in each format, sampled and not.
const FORMATS: [(&[(&str, &str)], bool); 6] = [
    (
        &[(
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )],
        true,
    ),
    (
        &[(
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        )],
        false,
    ),
    (
        &[("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1")],
        true,
    ),
    (
        &[("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0")],
        false,
    ),
    (
        &[
            ("x-b3-traceid", TRACE),
            ("x-b3-spanid", SPAN),
            ("x-b3-sampled", "1"),
        ],
        true,
    ),
    (
        &[
            ("x-b3-traceid", TRACE),
            ("x-b3-spanid", SPAN),
            ("x-b3-sampled", "0"),
        ],
        false,
    ),
];

#[test]
fn a_believed_callers_trace_and_decision_are_continued_in_every_format() {
    let modes = ["restart", "ignore"].map(|mode| {
        format!(r#"{{"incoming": {{"mode": "{mode}", "when": {{"header_absent": "x-known"}}}}}}"#)
    });
    let modes = [modes[0].as_str(), modes[1].as_str()];
    each_supported(|envoy| {
        let version = envoy.reported_version();
        let mut edge = Edge::start(envoy, &modes);
        let mut sent = Vec::new();
        let mut expected = BTreeMap::new();
        for tracer in TRACERS {
            for remedy in modes {
                for (headers, sampled) in FORMATS {
                    for believed in [true, false] {
                        let known = believed.then_some(("x-known", "1"));
                        let headers: Vec<_> = headers.iter().copied().chain(known).collect();
                        let passed = edge.send_one(tracer, Callers::Unknown, 0, remedy, &headers);
                        let exported = believed && sampled;
                        if exported {
                            expected.insert(passed.number, tracer);
                        }
                        sent.push((passed, exported, believed));
                    }
                }
            }
        }
        assert_eq!(sent.len(), 72);
        let spans = edge.spans(&expected);
        for (passed, exported, believed) in sent {
            let told = format!("{version}: {}", passed.told);
            let span = spans.get(&passed.number);
            assert_eq!(span.is_some(), exported, "{told}");
            let trace = span.map(|span| span.trace_id.as_str());
            assert_eq!(trace, exported.then_some(TRACE), "{told}");
            let parent = span.and_then(|span| span.parent_span_id.as_deref());
            assert_eq!(parent, exported.then_some(SPAN), "{told}");
            let ids = ["traceparent", "b3", "x-b3-traceid"];
            let mut ids = ids.iter().filter_map(|name| passed.left.header_text(name));
            assert_eq!(ids.any(|value| value.contains(TRACE)), believed, "{told}");
            let forced = passed.left.header_text("x-client-trace-id");
            assert_eq!(forced, None, "{told}");
        }
    });
    promises::held(
        "Context and formats",
        "A caller that `incoming.when` believes is continued with its decision beside the proxy's own tracer too, \
         in every format that is read",
        "the rendered early mutation, restart and ignore, W3C and both shapes of B3, sampled and not, three tracers, \
         random_sampling 0, callers that are believed and others",
        &format!(
            "72 of 72 requests a version, {} versions",
            EnvoyBinary::SUPPORTED.len()
        ),
    );
}

const B3: &str = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1";

#[test]
fn a_believed_callers_headers_are_put_back_as_the_limits_tell() {
    let remedy = r#"{"incoming": {"mode": "ignore", "when": {"header_absent": "x-known"}},
        "clear": ["baggage"]}"#;
    let bytes: &[u8] = b"vendor=\xff\xc3\x28";
    let request = |headers: &[(&str, &[u8])]| {
        let request = Request::get("/").header("x-known", "1");
        headers.iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        })
    };
    each_supported(|envoy| {
        let version = envoy.reported_version();
        // No tracer: what leaves is what the mutation left.
        let config = meshtrace_config::read(remedy.as_bytes()).expect("a configuration");
        let rendered = early_mutation(&config, Tracer::OpenTelemetry).expect("a mutation");
        let manager = HttpConnectionManager::new()
            .early_header_mutation(rendered.extension)
            .merge(rendered.manager.to_json())
            .route(Route::prefix("/").cluster("upstream"));
        let mesh = Mesh::with(
            envoy,
            Bootstrap::new().listener(Listener::http("edge", manager)),
        );
        let left = |request: &Request| mesh.pass(&mut mesh.connect("edge"), request);

        let parent: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let states: [(&str, &[u8]); 4] = [
            ("traceparent", parent),
            ("tracestate", b"a=1"),
            ("tracestate", b"b=2"),
            ("b3", b""),
        ];
        let repeated = left(&request(&states));
        assert_eq!(
            repeated.header_values("tracestate"),
            [b"a=1,b=2"],
            "{version}"
        );
        assert_eq!(repeated.header_text("b3"), None, "{version}");

        // Of an id the first line counts, a list goes on in other lines.
        let lines: [(&str, [&str; 2], &str); 6] = [
            ("b3", [B3, "0"], B3),
            ("uber-trace-id", ["1:2:0:1", "3:4:0:1"], "1:2:0:1"),
            ("x-datadog-sampling-priority", ["1", "0"], "1"),
            (
                "x-datadog-tags",
                ["_dd.p.a=1", "_dd.p.b=2"],
                "_dd.p.a=1,_dd.p.b=2",
            ),
            ("sentry-trace", ["1", "2"], "1,2"),
            ("baggage", ["a=1", "b=2"], "a=1,b=2"),
        ];
        let twice = lines
            .iter()
            .flat_map(|(name, values, _)| values.map(|value| (*name, value.as_bytes())));
        let twice = left(&request(&twice.collect::<Vec<_>>()));
        for (name, _, expected) in lines {
            assert_eq!(
                twice.header_values(name),
                [expected.as_bytes()],
                "{name} {version}"
            );
        }

        let state = left(&request(&[
            ("traceparent", parent),
            ("tracestate", bytes),
            ("baggage", bytes),
        ]));
        assert_eq!(state.header_text("tracestate"), None, "{version}");
        assert_eq!(state.header_values("baggage"), [bytes], "{version}");
    });
}

/// Sends a request from `from` and returns whether it was believed.
async fn is_believed_from(from: Ipv4Addr, proxy: SocketAddr) -> bool {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind(SocketAddrV4::new(from, 0).into())
        .expect("a loopback address");
    let mut stream = socket.connect(proxy).await.expect("a connection");
    let request = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx-request-id: {REQUEST_ID}\r\nconnection: close\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("a request is sent");
    let mut response = String::new();
    stream
        .read_to_string(&mut response)
        .await
        .expect("a response");
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    response.contains(REQUEST_ID)
}

#[test]
fn a_network_holds_the_addresses_that_it_holds() {
    const NETWORKS: [&str; 11] = [
        "0.0.0.0/0",
        "126.0.0.0/7",
        "96.0.0.0/3",
        "127.0.0.0/8",
        "127.16.0.0/12",
        "127.100.0.0/14",
        "127.10.10.0/23",
        "127.0.0.0/25",
        "127.0.0.128/25",
        "127.0.0.8/29",
        "127.0.0.1/32",
    ];
    let last = [1, 2, 7, 8, 15, 16, 27, 99, 100, 127, 128, 199, 200, 255];
    let mut callers: Vec<_> = [1, 10, 15, 16, 17, 29, 31, 32, 99, 100, 103, 104, 116, 255]
        .map(|second| Ipv4Addr::new(127, second, 10, 1))
        .into();
    callers.extend([1, 9, 10, 11, 12, 100].map(|third| Ipv4Addr::new(127, 10, third, 1)));
    callers.extend(last.map(|last| Ipv4Addr::new(127, 0, 0, last)));

    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    each_supported(|envoy| {
        let mut bootstrap = Bootstrap::new();
        for network in NETWORKS {
            let config = format!(
                r#"{{"incoming": {{"mode": "restart", "when": {{"not_from_cidrs": ["{network}"]}}}}}}"#
            );
            let config = meshtrace_config::read(config.as_bytes()).expect("a configuration");
            let rendered = early_mutation(&config, Tracer::OpenTelemetry).expect("a mutation");
            let manager = HttpConnectionManager::new()
                .early_header_mutation(rendered.extension)
                .merge(rendered.manager.to_json())
                .merge(json!({"always_set_request_id_in_response": true}))
                .route(Route::prefix("/").cluster("upstream"));
            bootstrap = bootstrap.listener(Listener::http(network, manager));
        }
        let mesh = Mesh::with(envoy, bootstrap);
        for text in NETWORKS {
            let (network, length) = text.split_once('/').expect("a network");
            let network: Ipv4Addr = network.parse().expect("an address");
            let length: u32 = length.parse().expect("a length");
            for caller in &callers {
                let differing = (caller.to_bits() ^ network.to_bits()).leading_zeros();
                let believed = is_believed_from(*caller, mesh.address(text));
                assert_eq!(
                    runtime.block_on(believed),
                    differing >= length,
                    "{caller} in {text} on {}",
                    envoy.reported_version()
                );
            }
        }
    });
}
