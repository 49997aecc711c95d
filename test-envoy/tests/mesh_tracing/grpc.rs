//! The status of gRPC: whose it is, and what becomes of one that cannot be read.
//!
//! OpenTelemetry's semantic conventions and gRPC's "Status codes and their use in gRPC" decide: a
//! status that cannot be read is UNKNOWN.

use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::{ClosedPort, Reply};
use envoy_test_harness::{EnvoyBinary, SpanKind, Upstream, each_supported};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::host::{Host, each_host};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, mesh_tracing, reporting};
use serde_json::json;

fn call(path: &str, flags: &str) -> Request {
    Request::post(path, [0, 0, 0, 0, 0])
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("traceparent", format!("00-{TRACE}-{SPAN}-{flags}"))
}

/// How Envoy answers itself: what it tells the caller, and what the call failed by.
const OWN: [(&str, &str, &str); 4] = [
    ("/s.S/Reset", "UNAVAILABLE", "UR"),
    ("/s.S/Silent", "UNAVAILABLE", "UT"),
    ("/s.S/Refused", "UNAVAILABLE", "UF"),
    ("/s.S/Long", "DEADLINE_EXCEEDED", "max_duration_timeout"),
];

#[test]
fn a_client_span_has_the_status_of_grpc_that_the_upstream_sent() {
    let mut tried = 0;
    each_supported(|envoy| {
        let upstream = Upstream::start().expect("a server");
        upstream.respond_with(|request| {
            let reply = Reply::ok().header("content-type", "application/grpc");
            match &*request.path {
                "/s.S/Reset" => Reply::reset(),
                "/s.S/Silent" | "/s.S/Long" => reply.delay(Duration::from_secs(2)),
                _ => reply.header("grpc-status", "14"),
            }
        });
        let closed = ClosedPort::reserve().expect("a port");
        let of_role = |role: &str| {
            let config = reporting("http/protobuf", &json!({"role": role}).to_string());
            let long =
                json!({"timeout": "0s", "max_stream_duration": {"max_stream_duration": "0.1s"}});
            let manager = HttpConnectionManager::new()
                .filter(mesh_tracing(config))
                .route(Route::prefix("/s.S/Refused").cluster("refused"))
                .route(
                    Route::prefix("/s.S/Long")
                        .cluster("calls")
                        .merge(json!({"route": long})),
                )
                .route(
                    Route::prefix("/")
                        .cluster("calls")
                        .merge(json!({"route": {"timeout": "0.3s"}})),
                );
            Listener::http(role, manager)
        };
        let bootstrap = Bootstrap::new()
            .listener(of_role("gateway"))
            .listener(of_role("client"))
            .cluster(Cluster::http2("calls", upstream.address()))
            .cluster(Cluster::http2("refused", closed.address()));
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        for (role, count) in [("gateway", 2), ("client", 1)] {
            let address = mesh.envoy.address(role).expect("its address");
            let sent = ("/s.S/Sent", "UNAVAILABLE", "UNAVAILABLE");
            for (path, status, error) in OWN.into_iter().chain([sent]) {
                for flags in ["01", "00"] {
                    let at = format!("{} {role} {path} {flags}", envoy.reported_version());
                    call(path, flags).send(address).expect("an answer");
                    tried += 1;
                    let spans = mesh.sink.wait_for_spans(count).expect(&at);
                    mesh.sink.clear();
                    for span in spans {
                        let told = |key| span.attribute(key);
                        let (status, error) = match span.kind {
                            SpanKind::Client => {
                                ((path == "/s.S/Sent").then_some(status), Some(error))
                            }
                            _ => (Some(status), Some(status)),
                        };
                        assert_eq!(told("rpc.response.status_code"), status, "{at}: {span:#?}");
                        assert_eq!(told("error.type"), error, "{at}: {span:#?}");
                        let has_code = told("http.response.status_code").is_some();
                        assert_eq!(has_code, status.is_some(), "{at}: {span:#?}");
                        assert!(span.status_error, "{at}: {span:#?}");
                    }
                }
            }
        }
        mesh.assert_sound(envoy.reported_version());
    });
    let versions = EnvoyBinary::SUPPORTED.len();
    promises::held(
        "Spans",
        "A CLIENT span has the status of gRPC that the upstream sent, and none that Envoy answered with in its place",
        "a reset, two limits of time and a refused connection; roles gateway and client, sampled and kept",
        &format!("{} calls a version, {versions} versions", tried / versions),
    );
}

/// The lines of `grpc-status`.
const UNREADABLE: [&[&str]; 7] = [
    &["17"],
    &["4294967296"],
    &["18446744073709551616"],
    &["-1"],
    &["abc"],
    &["0", "13"],
    &[""],
];

#[test]
fn a_status_that_cannot_be_read_is_unknown() {
    let mut tried = 0;
    each_host(|host, envoy, name| {
        let config = reporting("http/protobuf", r#"{"role": "gateway"}"#);
        let config = match host {
            Host::Wasm => config,
            Host::Native => reporting("http/protobuf", "{}"),
        };
        let manager = HttpConnectionManager::new().route(Route::prefix("/").cluster("calls"));
        let manager = match host {
            Host::Wasm => host.trace(manager, config),
            Host::Native => host
                .trace(manager, config)
                .merge(json!({"tracing": {"spawn_upstream_span": true}})),
        };
        let upstream = Upstream::start().expect("a server");
        upstream.respond_with(|request| {
            let reply = Reply::ok().header("content-type", "application/grpc");
            let mut parts = request.path.rsplit('/');
            let nth = parts.next().and_then(|nth| nth.parse::<usize>().ok());
            let lines = nth.map_or(&[][..], |nth| UNREADABLE[nth]);
            let add = match parts.next() {
                Some("trailers") => Reply::trailer,
                _ => Reply::header,
            };
            let reply = match request.path.contains("trailers") {
                true => reply.body([0, 0, 0, 0, 0]),
                false => reply,
            };
            lines
                .iter()
                .fold(reply, |reply, line| add(reply, "grpc-status", line))
        });
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http2("calls", upstream.address()));
        let mesh = host.start_with(envoy, "http/protobuf", bootstrap);
        for (nth, lines) in UNREADABLE.iter().enumerate() {
            for place in ["headers", "trailers"] {
                for flags in ["01", "00"] {
                    let at = format!("{name} {lines:?} {place} {flags}");
                    mesh.send(&call(&format!("/{place}/{nth}"), flags));
                    tried += 1;
                    let spans = mesh.sink.wait_for_spans(2).expect(&at);
                    mesh.sink.clear();
                    for span in spans {
                        for key in ["rpc.response.status_code", "error.type"] {
                            let told = span.attribute(key);
                            assert_eq!(told, Some("UNKNOWN"), "{at} {key}: {span:#?}");
                        }
                        assert!(span.status_error, "{at}: {span:#?}");
                    }
                }
            }
        }
    });
    promises::held(
        "Spans",
        "A status of gRPC that cannot be read is UNKNOWN, and an error",
        "Numbers that gRPC does not have, words, two lines and an empty one, in headers and in trailers, sampled and \
         kept; both hosts",
        &format!("{tried} calls"),
    );
}
