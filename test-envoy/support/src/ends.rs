//! The ways in which a call can end.

use std::time::Duration;

use envoy_test_harness::client::Request;
use envoy_test_harness::config::Route;
use envoy_test_harness::upstream::{RecordedRequest, Reply};
use serde_json::json;

use crate::common::SPAN;
use crate::reporting::Collected;

const LONG: Duration = Duration::from_secs(3600);

/// The upstream's answer, by the last part of the path.
pub fn answer(request: &RecordedRequest) -> Reply {
    match request.path.rsplit('/').next().unwrap_or_default() {
        "fails" => Reply::status(503),
        "cut" => Reply::ok().body("part").cut(),
        "stalled" => Reply::ok().body("part").stall(),
        "silent" => Reply::ok().delay(LONG),
        "reset" => Reply::reset(),
        "recovers" => match request.header_text("x-envoy-attempt-count").as_deref() {
            Some("3") => Reply::ok(),
            _ => Reply::status(503),
        },
        "falls-silent" => match request.header_text("x-envoy-attempt-count").as_deref() {
            Some("1") => Reply::status(503),
            _ => Reply::ok().delay(LONG),
        },
        "led" => Reply::status(302).header("location", "http://other.example:81/there/ok"),
        _ => Reply::ok(),
    }
}

/// The routes to a cluster, below its name.
pub fn routes(cluster: &str) -> Vec<Route> {
    let at = |name: &str| Route::prefix(&format!("/{cluster}/{name}/")).cluster(cluster);
    let half = "0.5s";
    let per_try = json!({"route": {"timeout": "0s", "retry_policy": {
        "retry_on": "5xx", "num_retries": 1, "per_try_timeout": half,
    }}});
    let longest =
        json!({"route": {"timeout": "0s", "max_stream_duration": {"max_stream_duration": half}}});
    let of_grpc = json!({"route": {"max_stream_duration": {"grpc_timeout_header_max": "0s"}}});
    let led = json!({"route": {"internal_redirect_policy": {"redirect_response_codes": [302]},
        "prefix_rewrite": "/rewritten/"}});
    vec![
        at("timeout").timeout(Duration::from_millis(500)),
        at("per-try").merge(per_try),
        at("longest").merge(longest),
        at("grpc").merge(of_grpc),
        at("idle").merge(json!({"route": {"timeout": "0s", "idle_timeout": half}})),
        at("retry").retry("5xx,reset", 2),
        at("led").merge(led),
        Route::prefix(&format!("/{cluster}/")).cluster(cluster),
    ]
}

/// What is asked for below a cluster's name; the upstream's status, and whether its span is an
/// error.
pub const CALLS: [(&str, Option<&str>, bool); 18] = [
    ("ok", Some("200"), false),
    ("fails", Some("503"), true),
    ("cut", Some("200"), true),
    ("timeout/stalled", Some("200"), true),
    ("timeout/silent", None, true),
    ("longest/stalled", Some("200"), false),
    ("longest/silent", None, true),
    ("idle/stalled", Some("200"), false),
    ("idle/silent", None, true),
    ("per-try/silent", None, true),
    ("per-try/falls-silent", None, true),
    ("reset", None, true),
    ("retry/ok", Some("200"), false),
    ("retry/recovers", Some("200"), false),
    ("retry/fails", Some("503"), true),
    ("retry/reset", None, true),
    ("grpc/silent", None, true),
    ("grpc/stalled", Some("200"), true),
];

/// Sends a request whose response may be cut off.
pub fn send_in(mesh: &Collected, listener: &str, path: &str, trace: &str, flags: &str) {
    let address = mesh.envoy.address(listener).expect("its address");
    let mut request = Request::get(path)
        .header("host", "shop.example:80")
        .header("traceparent", format!("00-{trace}-{SPAN}-{flags}"));
    if path.contains("/grpc/") {
        request = request
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", "500m");
    }
    // An error where the body was cut off.
    let _ = request.send(address);
}
