//! The vector set through a real Envoy: what `trace_context.wasm` makes of single requests.

use envoy_test_harness::client::Request;
use envoy_test_harness::upstream::RecordedRequest;
use envoy_test_harness::{EnvoyBinary, each_supported};
use meshtrace_test_support::common::{Mesh, SPAN, TRACE, manager, trace_context, trace_headers};
use serde_json::Value;

/// Valid in lenient reading only, with the reason in the propagation crate's own test.
const LENIENT: &[&str] = &["b3-single/parent-without-sampled"];

/// Formats of the vector set that are read on a listener of their own, and the headers of each.
const OTHERS: &[(&str, &str, &str)] = &[
    ("jaeger", "jaeger", "uber-trace-id"),
    ("ot", "ottrace", "ot-tracer-"),
    ("xray", "xray", "x-amzn-trace-id"),
    ("gcp", "gcp", "x-cloud-trace-context"),
    ("datadog", "datadog", "x-datadog-"),
    ("grpc-trace-bin", "grpc-trace-bin", "grpc-trace-bin"),
];

/// No context and not malformed: they leave as they came.
const INCOMPLETE: &[&str] = &[
    "xray/root-only",
    "gcp/trace-id-only",
    "gcp/span-id-zero",
    "datadog/parent-missing",
];

/// Contexts of which a malformed part does not leave.
const MENDED: &[&str] = &["datadog/tid-uppercase-rejected", "datadog/tags-malformed"];

fn vectors() -> Value {
    let text = include_str!("../../../crates/propagation/tests/vectors.json");
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
fn expected(expect: &Value, is_b3: bool) -> Vec<String> {
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
    if let (Some(parent), true) = (expect["parent_span_id"].as_str(), is_b3) {
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
    each_supported(|envoy| {
        send_vectors(envoy);
    });
}

fn send_vectors(envoy: &EnvoyBinary) {
    let inject = r#""inject": ["tracecontext", "b3multi"]"#;
    let listener = |extract: &str, strict: bool| {
        // The specifications have one `traceparent`, whatever the others name.
        let config = format!(
            r#"{{"extract": [{extract}], {inject}, "b3_strict": {strict}, "on_repeated": "reject"}}"#
        );
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
                expected(expect, true)
            }
        };
        assert_eq!(seen, expected, "{name} on {}", envoy.reported_version());
        sent += 1;
    }
    assert!(sent > 130, "only {sent} vectors were sent");
}

/// The lines whose name begins with `prefix`: `name: value`, sorted.
fn own(headers: impl Iterator<Item = (String, String)>, prefix: &str) -> Vec<String> {
    let mut own: Vec<_> = headers
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    own.sort();
    own
}

fn own_seen(seen: &RecordedRequest, prefix: &str) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    own(
        seen.headers
            .iter()
            .map(|(name, value)| (text(name.as_ref()), text(value.as_ref()))),
        prefix,
    )
}

fn own_sent(case: &Value, prefix: &str) -> Vec<String> {
    let headers = case["headers"].as_object().expect("headers").iter();
    let text = |value: &Value| value.as_str().expect("one line").to_owned();
    own(
        headers.map(|(name, value)| (name.clone(), text(value))),
        prefix,
    )
}

#[test]
fn every_vector_of_the_other_formats_arrives_as_its_specification_says_on_every_envoy() {
    each_supported(|envoy| {
        send_other_vectors(envoy);
    });
}

fn send_other_vectors(envoy: &EnvoyBinary) {
    let listener = |config: &str| manager(trace_context(config));
    let config =
        |format| format!(r#"{{"extract": ["{format}"], "inject": ["tracecontext", "b3multi"]}}"#);
    let listeners = OTHERS
        .iter()
        .map(|(name, format, _)| (*name, listener(&config(format))));
    let mesh = Mesh::start_on(envoy, listeners.collect());

    let vectors = vectors();
    let mut sent = 0;
    for (format, _, prefix) in OTHERS {
        let mut connection = mesh.connect(format);
        let cases = vectors["cases"].as_array().expect("cases");
        for case in cases.iter().filter(|case| case["format"] == *format) {
            let name = case["name"].as_str().expect("a name");
            let seen = mesh.pass(&mut connection, &request(case));
            let own = own_seen(&seen, prefix);
            let headers = trace_headers(&seen);
            let version = envoy.reported_version();
            if case["expect"] == "invalid" {
                assert_eq!(headers, Vec::<String>::new(), "{name} on {version}");
                if INCOMPLETE.contains(&name) {
                    assert_eq!(own, own_sent(case, prefix), "{name} on {version}");
                } else {
                    assert_eq!(own, Vec::<String>::new(), "{name} on {version}");
                }
            } else {
                let expected = expected(&case["expect"], false);
                assert_eq!(headers, expected, "{name} on {version}");
                if !MENDED.contains(&name) {
                    assert_eq!(own, own_sent(case, prefix), "{name} on {version}");
                }
            }
            sent += 1;
        }
    }
    assert!(sent > 50, "only {sent} vectors were sent");
}

/// One format's headers come out of another, through two listeners in a row.
#[test]
fn every_other_format_is_written_and_read_back_on_every_envoy() {
    each_supported(|envoy| {
        let traceparent = format!("traceparent: 00-{TRACE}-{SPAN}-01");
        let configs: Vec<_> = OTHERS
            .iter()
            .map(|(_, format, _)| {
                let write =
                    format!(r#"{{"extract": ["b3"], "inject": ["{format}"], "clear": ["b3"]}}"#);
                let read = format!(
                    r#"{{"extract": ["{format}"], "inject": ["tracecontext"], "clear": ["{format}"]}}"#
                );
                (format!("{format}-write"), write, format!("{format}-read"), read)
            })
            .collect();
        let listeners = configs.iter().flat_map(|(write, to, read, from)| {
            [
                (write.as_str(), manager(trace_context(to))),
                (read.as_str(), manager(trace_context(from))),
            ]
        });
        let mesh = Mesh::start_on(envoy, listeners.collect());
        for ((write, _, read, _), (name, _, prefix)) in configs.iter().zip(OTHERS) {
            let b3 = Request::get("/").header("b3", format!("{TRACE}-{SPAN}-1"));
            let written = own_seen(&mesh.pass(&mut mesh.connect(write), &b3), prefix);
            assert!(
                !written.is_empty(),
                "{name} on {}",
                envoy.reported_version()
            );
            let request = written.iter().fold(Request::get("/"), |request, line| {
                let (name, value) = line.split_once(": ").expect("a header line");
                request.header(name, value)
            });
            let seen = mesh.pass(&mut mesh.connect(read), &request);
            assert_eq!(trace_headers(&seen), [traceparent.as_str()], "{name}");
            assert_eq!(own_seen(&seen, prefix), Vec::<String>::new(), "{name}");
        }
    });
}
