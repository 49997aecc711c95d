//! `mesh_tracing.wasm` with `report`: the spans that a collector gets from real Envoys.

mod common;
mod reporting;

use common::{SPAN, TRACE, get};
use envoy_test_harness::{EnvoyBinary, SpanKind};
use reporting::{Collected, envoys};

#[test]
fn a_proxied_request_is_a_server_span_with_every_attribute() {
    for envoy in envoys() {
        for protocol in ["http/protobuf", "grpc"] {
            let mesh = Collected::start(&envoy, protocol, "{}");
            let request = get(&[
                ("traceparent", &format!("00-{TRACE}-{SPAN}-01")),
                ("tracestate", "vendor=1"),
                ("user-agent", "test/1.0"),
                ("x-request-id", "7f5c4d5c-0b5c-9f5c-8f5c-7f5c4d5c0b5c"),
            ]);
            let response = mesh.send(&request);
            assert_eq!(response.status, 200);
            let spans = mesh.sink.wait_for_spans(1).expect("a span");
            let log = mesh.envoy.log().unwrap();
            eprintln!("{} {protocol} {spans:#?} {log}", envoy.reported_version());
            eprintln!("{:#?}", mesh.envoy.stats().unwrap().iter().filter(|(n,_)| n.contains("meshtrace.report") || n.contains("host_err")).collect::<Vec<_>>());
            assert_eq!(spans[0].kind, SpanKind::Server);
        }
    }
}
