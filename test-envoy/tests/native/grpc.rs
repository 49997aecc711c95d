//! Calls of gRPC.
//!
//! OpenTelemetry's semantic conventions for gRPC decide which codes are errors, of a server and of a
//! client.

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Cluster, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::Reply;
use envoy_test_harness::{SpanKind, Upstream};
use meshtrace_test_support::common::{SPAN, TRACE};
use meshtrace_test_support::host::Host;
use meshtrace_test_support::native::{envoys, export, options, tracing};
use meshtrace_test_support::reporting::Collected;
use serde_json::json;

#[test]
fn a_call_has_the_names_of_rpc_and_fails_by_its_status() {
    for envoy in envoys() {
        let version = envoy.reported_version();
        let config = json!({"report": {"cluster": "collector"}});
        let tracing = tracing(config).spawn_upstream_span(true);
        let upstream = Upstream::start().expect("an upstream");
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/").cluster("grpc"))
            .filter(export())
            .tracing(tracing);
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http2("grpc", upstream.address()));
        let mesh = Collected::on(Host::Native, &envoy, "http/protobuf", bootstrap, options());
        upstream.respond_with(|request| {
            let reply = Reply::ok().header("content-type", "application/grpc");
            let message = || reply.clone().body([0, 0, 0, 0, 0]);
            match request.path.split('?').next().unwrap_or_default() {
                "/shop.Cart/Works" => message().trailer("grpc-status", "0"),
                "/shop.Cart/Breaks" => message().trailer("grpc-status", "13"),
                _ => reply.header("grpc-status", "5"),
            }
        });
        for (method, status, of_server, of_client) in [
            ("Works", "OK", false, false),
            ("Breaks", "INTERNAL", true, true),
            ("Misses", "NOT_FOUND", false, true),
        ] {
            // Any client may send a query and a password.
            let target = format!("/shop.Cart/{method}?token=secret");
            let request = Request::post(&target, [0, 0, 0, 0, 0])
                .header("host", "user:secret@shop:81")
                .header("content-type", "application/grpc")
                .header("traceparent", format!("00-{TRACE}-{SPAN}-01"));
            mesh.send(&request);
            let spans = mesh.sink.wait_for_spans(2).expect("two spans");
            mesh.sink.clear();
            for span in &spans {
                let what = format!("{version} {method}: {span:#?}");
                assert_eq!(span.name, format!("shop.Cart/{method}"), "{what}");
                assert!(!format!("{span:?}").contains("secret"), "{what}");
                let attribute = |key| span.attribute(key);
                assert_eq!(attribute("server.address"), Some("shop"), "{what}");
                let path = format!("/shop.Cart/{method}");
                let told = (span.kind == SpanKind::Server).then_some(&*path);
                assert_eq!(attribute("grpc.path"), told, "{what}");
                assert_eq!(attribute("rpc.system.name"), Some("grpc"), "{what}");
                let is_error = match span.kind {
                    SpanKind::Server => of_server,
                    _ => of_client,
                };
                let found = attribute("rpc.response.status_code");
                assert_eq!(
                    (found, span.status_error),
                    (Some(status), is_error),
                    "{what}"
                );
            }
        }
    }
}
