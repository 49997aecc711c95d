//! The vector set through a real Envoy: what `trace_context.wasm` makes of single requests.

mod common;

use common::{Mesh, manager, trace_context, trace_headers};
use envoy_test_harness::EnvoyBinary;
use envoy_test_harness::client::Request;
use serde_json::Value;

/// Valid in lenient reading only, with the reason in the propagation crate's own test.
const LENIENT: &[&str] = &["b3-single/parent-without-sampled"];

fn vectors() -> Value {
    let text = include_str!("../../crates/propagation/tests/vectors.json");
    serde_json::from_str(text).expect("the vector set")
}

fn request(case: &Value) -> Request {
    let headers = case["headers"].as_object().expect("headers");
    headers
        .iter()
        .fold(Request::get("/"), |request, (name, value)| match value {
            Value::Array(values) => values.iter().fold(request, |request, value| {
                request.header(name, value.as_str().expect("text"))
            }),
            value => request.header(name, value.as_str().expect("text")),
        })
}

/// What must reach the upstream when W3C and B3 are written.
fn expected(expect: &Value) -> Vec<String> {
    let mut headers = Vec::new();
    let sampled = match (&expect["sampled"], &expect["debug"]) {
        (_, Value::Bool(true)) => Some("x-b3-flags: 1"),
        (Value::Bool(true), _) => Some("x-b3-sampled: 1"),
        (Value::Bool(false), _) => Some("x-b3-sampled: 0"),
        _ => None,
    };
    headers.extend(sampled.map(str::to_owned));
    if let (Some(trace), Some(span)) = (expect["trace_id"].as_str(), expect["span_id"].as_str()) {
        let flag = if expect["sampled"] == true { 1 } else { 0 };
        headers.push(format!("traceparent: 00-{trace}-{span}-0{flag}"));
        headers.push(format!("x-b3-traceid: {trace}"));
        headers.push(format!("x-b3-spanid: {span}"));
    }
    if let Some(parent) = expect["parent_span_id"].as_str() {
        headers.push(format!("x-b3-parentspanid: {parent}"));
    }
    headers.sort();
    headers
}

/// A pass-through leaves a valid `traceparent` of version 00 to the letter, flags that it does not
/// know included, and a `tracestate` that it keeps.
fn normalised(headers: Vec<String>) -> Vec<String> {
    headers
        .into_iter()
        .filter(|header| !header.starts_with("tracestate: "))
        .map(|header| match header.strip_prefix("traceparent: ") {
            Some(text) => {
                let (ids, flags) = text.rsplit_once('-').expect("flags");
                let flags = u8::from_str_radix(flags, 16).expect("flags") & 1;
                format!("traceparent: {ids}-0{flags}")
            }
            None => header,
        })
        // A 64-bit id that came in B3 keeps its width there.
        .map(|header| match header.strip_prefix("x-b3-traceid: ") {
            Some(text) => format!("x-b3-traceid: {text:0>32}"),
            None => header,
        })
        .collect()
}

#[test]
fn every_vector_of_the_three_formats_arrives_as_its_specification_says_on_every_envoy() {
    for envoy in EnvoyBinary::all_supported().expect("the supported Envoys") {
        send_vectors(&envoy);
    }
}

fn send_vectors(envoy: &EnvoyBinary) {
    let inject = r#""inject": ["tracecontext", "b3multi"]"#;
    let listener = |extract: &str, strict: bool| {
        let config = format!(r#"{{"extract": [{extract}], {inject}, "b3_strict": {strict}}}"#);
        manager(trace_context(&config))
    };
    let b3 = r#""b3", "b3multi""#;
    let mesh = Mesh::start_on(
        envoy,
        vec![
            ("w3c", listener(r#""tracecontext""#, false)),
            ("b3-multi", listener(r#""b3multi""#, true)),
            ("b3-single", listener(b3, true)),
            ("lenient", listener(b3, false)),
        ],
    );
    let mut connections: Vec<_> = ["w3c", "b3-multi", "b3-single", "lenient"]
        .map(|name| (name, mesh.connect(name)))
        .into();

    let vectors = vectors();
    let mut sent = 0;
    for case in vectors["cases"].as_array().expect("cases") {
        let name = case["name"].as_str().expect("a name");
        let listener = match case["format"].as_str().expect("a format") {
            _ if LENIENT.contains(&name) => "lenient",
            "w3c" | "w3c-tracestate" => "w3c",
            format @ ("b3-multi" | "b3-single") => format,
            _ => continue,
        };
        let (_, connection) = connections
            .iter_mut()
            .find(|(known, _)| *known == listener)
            .expect("a listener of that name");

        let seen = mesh.pass(connection, &request(case));
        let mut seen = normalised(trace_headers(&seen));
        let expected = match &case["expect"] {
            Value::String(_) => vec![],
            expect => {
                // A `b3` that came in leaves beside the formats that are written.
                seen.retain(|header| !header.starts_with("b3: "));
                expected(expect)
            }
        };
        assert_eq!(seen, expected, "{name} on {}", envoy.reported_version());
        sent += 1;
    }
    assert!(sent > 130, "only {sent} vectors were sent");
}
