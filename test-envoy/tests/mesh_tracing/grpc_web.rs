//! gRPC-Web, before the filter that translates it and behind it: what is known of the call's end is
//! said, and nothing else.
//!
//! gRPC's PROTOCOL-WEB (the trailers are the last frame of the body) and OpenTelemetry's semantic
//! conventions for gRPC (which codes are errors of a server) decide.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route,
};
use envoy_test_harness::upstream::Reply;
use envoy_test_harness::{EnvoyBinary, SpanKind, Upstream, each_supported, expect};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::promises;
use meshtrace_test_support::reporting::{Collected, mesh_tracing, reporting};
use serde_json::json;

fn grpc_web() -> HttpFilter {
    HttpFilter::raw(
        "envoy.filters.http.grpc_web",
        json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"}),
    )
}

fn answer(method: &str) -> Reply {
    let grpc = Reply::ok().header("content-type", "application/grpc+proto");
    let message = || grpc.clone().body([0, 0, 0, 0, 0]);
    match method {
        "Works" => message().trailer("grpc-status", "0"),
        "Breaks" => message().trailer("grpc-status", "13"),
        "IsUnknown" => message().trailer("grpc-status", "2"),
        "IsMissing" => message().trailer("grpc-status", "5"),
        // Without a message its end is in the headers.
        "Refuses" => grpc.header("grpc-status", "14"),
        "IsNoGrpc" => Reply::status(503),
        _ => Reply::status(404),
    }
}

const TYPES: [&str; 4] = [
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
];

/// The method; gRPC's code and `error.type` of the SERVER span where the trailers are seen, and
/// where they are not.
type Told = (Option<&'static str>, Option<&'static str>);
const CALLS: [(&str, Told, Told); 6] = [
    ("Works", (Some("OK"), None), (None, None)),
    ("Breaks", (Some("INTERNAL"), Some("INTERNAL")), (None, None)),
    (
        "IsUnknown",
        (Some("UNKNOWN"), Some("UNKNOWN")),
        (None, None),
    ),
    ("IsMissing", (Some("NOT_FOUND"), None), (None, None)),
    (
        "Refuses",
        (Some("UNAVAILABLE"), Some("UNAVAILABLE")),
        (Some("UNAVAILABLE"), Some("UNAVAILABLE")),
    ),
    // What HTTP's status stands for ("HTTP to gRPC Status Code Mapping").
    (
        "IsNoGrpc",
        (Some("UNAVAILABLE"), Some("503")),
        (Some("UNAVAILABLE"), Some("503")),
    ),
];

fn call(kind: &str, method: &str, flags: &str) -> Request {
    let message = [0, 0, 0, 0, 0];
    let body = match kind.contains("-text") {
        true => STANDARD.encode(message).into_bytes(),
        false => message.to_vec(),
    };
    Request::post(&format!("/shop.v1.Cart/{method}"), body)
        .header("content-type", kind)
        .header("x-grpc-web", "1")
        .header("traceparent", format!("00-{TRACE}-{SPAN}-{flags}"))
}

#[test]
fn a_call_of_grpc_web_is_told_by_what_is_known_of_its_end() {
    let mut tried = 0;
    each_supported(|envoy| {
        let server = Upstream::start().expect("a server");
        server.respond_with(|request| answer(request.path.rsplit('/').next().unwrap_or_default()));
        let filter = || mesh_tracing(reporting("http/protobuf", r#"{"role": "gateway"}"#));
        let manager = |filters: [HttpFilter; 2]| {
            let manager = HttpConnectionManager::new().route(Route::prefix("/").cluster("server"));
            filters
                .into_iter()
                .fold(manager, HttpConnectionManager::filter)
        };
        let bootstrap = Bootstrap::new()
            .listener(Listener::http(
                "translated",
                manager([grpc_web(), filter().into()]),
            ))
            .listener(Listener::http(
                "untranslated",
                manager([filter().into(), grpc_web()]),
            ))
            .cluster(Cluster::http2("server", server.address()));
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        for name in ["translated", "untranslated"] {
            let address = mesh.envoy.address(name).expect("its address");
            for kind in TYPES {
                for (method, seen, unseen) in CALLS {
                    let at = format!("{} {name} {kind} {method}", envoy.reported_version());
                    let (status, error) = match name {
                        "translated" => seen,
                        _ => unseen,
                    };
                    call(kind, method, "01").send(address).expect("a response");
                    let spans = mesh.sink.wait_for_spans(2).expect("two spans");
                    mesh.sink.clear();
                    let span = expect::span()
                        .of_kind(SpanKind::Server)
                        .at(&at)
                        .find_in(&spans);
                    assert_eq!(span.name, format!("shop.v1.Cart/{method}"), "{at}");
                    assert_eq!(span.attribute("rpc.system.name"), Some("grpc"), "{at}");
                    assert_eq!(span.attribute("rpc.response.status_code"), status, "{at}");
                    assert_eq!(span.attribute("error.type"), error, "{at}");
                    assert_eq!(span.status_error, error.is_some(), "{at}");
                    // Whatever is not OK is an error of the caller's.
                    let client = expect::span()
                        .of_kind(SpanKind::Client)
                        .at(&at)
                        .find_in(&spans);
                    let is_error = status.is_some_and(|status| status != "OK");
                    assert_eq!(client.status_error, is_error, "{at}");
                    assert_eq!(client.attribute("rpc.response.status_code"), status, "{at}");

                    // And a call that is not sampled is kept if it is known to have failed.
                    let before = mesh.counter("report.kept");
                    call(kind, method, "00").send(address).expect("a response");
                    tried += 2;
                    let kept = u64::from(error.is_some());
                    mesh.wait_for_counter("report.kept", before + kept);
                    assert_eq!(mesh.counter("report.kept"), before + kept, "{at}");
                    if kept > 0 {
                        mesh.sink.wait_for_spans(2).expect("two spans");
                        mesh.sink.clear();
                    }
                }
            }
        }
        assert_eq!(mesh.counter("host_errors"), 0);
    });
    let versions = EnvoyBinary::SUPPORTED.len();
    promises::held(
        "Spans",
        "A gRPC-Web call that succeeds is no error; what cannot be known of its end is not said",
        "6 outcomes, 4 content types, grpc_web before the filter and behind it, sampled and not",
        &format!("{} calls a version, {versions} versions", tried / versions),
    );
}
