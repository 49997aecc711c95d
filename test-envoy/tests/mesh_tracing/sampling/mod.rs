//! `mesh_tracing` with `sampling`: what is exported, and what the next hop is told, on real Envoys.

mod conditions;
mod force;
mod own_tracer;
mod parent;
mod rate;
mod ratio;
mod rules;

use envoy_test_harness::Span;
use envoy_test_harness::client::Request;
use envoy_test_harness::upstream::RecordedRequest;
use meshtrace_test_support::common::SPAN;
use meshtrace_test_support::reporting::Collected;
use meshtrace_test_support::tracers::Caller;
use serde_json::{Value, json};

/// The right-most 56 bits of a trace id that a half keeps, and of one that it does not.
const KEPT: &str = "ffffffffffffff";
const LOST: &str = "00000000000001";

/// A configuration that reports, with these rules and these further keys of `report`.
fn config(sampling: Value, report: Value) -> Value {
    let mut config = json!({"sampling": sampling, "report": {"cluster": "collector"}});
    let Value::Object(report) = report else {
        panic!("an object");
    };
    for (key, value) in report {
        config["report"][key] = value;
    }
    config
}

/// A request whose trace is to be recorded whatever the rules say: it is the last span to come.
fn last(path: &str) -> (Request, String) {
    let caller = Caller::fresh();
    let value = format!("00-{}-{SPAN}-01", caller.trace_id);
    (
        Request::get(path).header("traceparent", value),
        caller.trace_id,
    )
}

/// All spans but those of a last request, which is sent and waited for: spans of one worker arrive
/// in their order.
fn exported(mesh: &Collected, hops: usize) -> Vec<Span> {
    let (request, trace_id) = last("/last");
    mesh.send(&request);
    mesh.sink
        .wait_for_trace(&trace_id, hops)
        .expect("the last request's spans");
    let spans = mesh.sink.spans();
    mesh.sink.clear();
    spans
        .into_iter()
        .filter(|span| span.trace_id != trace_id)
        .collect()
}

fn tracestate(request: &RecordedRequest) -> String {
    let lines = request.header_values("tracestate");
    assert!(lines.len() <= 1, "{lines:?}");
    request.header_text("tracestate").unwrap_or_default()
}

/// The one request that the upstream saw.
fn seen(mesh: &Collected) -> RecordedRequest {
    let mut requests = mesh.upstream.take();
    assert_eq!(requests.len(), 1, "{requests:#?}");
    requests.remove(0)
}
