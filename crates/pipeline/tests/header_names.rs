//! What frames or routes a message is refused in every key of every filter that names a header
//! which is written or removed.
#![allow(clippy::expect_used, reason = "a test may fail")]

use meshtrace_headers::FRAMING;
use meshtrace_pipeline::{
    AccessLogTrace, Composition, MeshTracing, Proxy, RouteSampling, SpanAttributes, TraceContext,
};

/// Filter, configuration with `NAME` in it, and the key's path.
const KEYS: &[(&str, &str, &str)] = &[
    ("trace_context", r#"{"clear": ["NAME"]}"#, "clear[0]"),
    (
        "trace_context",
        r#"{"overrides": [{"host": "a", "clear": ["NAME"]}]}"#,
        "overrides[0].clear[0]",
    ),
    (
        "trace_context",
        r#"{"placement": "upstream", "tracer": "b3", "clear": ["b3multi", "NAME"]}"#,
        "clear[1]",
    ),
    (
        "access_log_trace",
        r#"{"ids": {"trace_id_header": "NAME"}}"#,
        "ids.trace_id_header",
    ),
    (
        "access_log_trace",
        r#"{"ids": {"trace_id_header": "x-t", "span_id_header": "NAME"}}"#,
        "ids.span_id_header",
    ),
    (
        "access_log_trace",
        r#"{"response_header": "NAME"}"#,
        "response_header",
    ),
    (
        "access_log_trace",
        r#"{"response_header": {"name": "NAME", "traceresponse": true}}"#,
        "response_header",
    ),
    (
        "route_sampling",
        r#"{"request_header": "NAME"}"#,
        "request_header",
    ),
    (
        "route_sampling",
        r#"{"ids": {"trace_id_header": "NAME"}}"#,
        "ids.trace_id_header",
    ),
    (
        "route_sampling",
        r#"{"force": {"header": "NAME", "value_env": "KEY"}}"#,
        "force.header",
    ),
    (
        "mesh_tracing",
        r#"{"trace_context": {"clear": ["NAME"]}}"#,
        "trace_context.clear[0]",
    ),
    (
        "mesh_tracing",
        r#"{"access_log": {"response_header": "NAME"}}"#,
        "access_log.response_header",
    ),
    (
        "mesh_tracing",
        r#"{"sampling": {"force": {"header": "NAME", "value_env": "KEY"}}, "report": {"cluster": "c"}}"#,
        "sampling.force.header",
    ),
    (
        "mesh_tracing",
        r#"{"report": {"cluster": "c", "headers": {"NAME": "x"}}}"#,
        "report.headers",
    ),
];

fn refusal(filter: &str, json: &str) -> Option<String> {
    fn of<C: Composition>(json: &str) -> Option<String> {
        let compiled = C::from_json(json.as_bytes(), &Proxy::UNKNOWN);
        compiled.err().map(|error| error.to_string())
    }
    match filter {
        "trace_context" => of::<TraceContext>(json),
        "access_log_trace" => of::<AccessLogTrace>(json),
        "route_sampling" => of::<RouteSampling>(json),
        "span_attributes" => of::<SpanAttributes>(json),
        _ => of::<MeshTracing>(json),
    }
}

#[test]
fn what_frames_a_message_is_refused_in_every_key() {
    for (filter, config, key) in KEYS {
        for name in FRAMING.iter().chain(&[":path", ":authority", "a b", ""]) {
            for name in [(*name).to_owned(), name.to_ascii_uppercase()] {
                let json = config.replace("NAME", &name);
                let refusal = refusal(filter, &json).expect(&json);
                let expected = format!("{filter}.{key}");
                assert!(refusal.starts_with(&expected), "{json}: {refusal}");
                assert!(!refusal.contains('\n'), "{refusal}");
            }
        }
        let json = config.replace("NAME", "X-Of-Its-Own");
        assert_eq!(refusal(filter, &json), None, "{json}");
    }
}

#[test]
fn no_prefix_takes_along_what_frames_a_message_or_carries_a_context() {
    use meshtrace_propagation::Field;

    let fields = Field::ALL
        .iter()
        .map(|field| String::from_utf8_lossy(field.name()).into_owned());
    let names = FRAMING.iter().map(|name| (*name).to_owned()).chain(fields);
    for name in names.chain(["uberctx-user".to_owned(), "ot-baggage-user".to_owned()]) {
        for (at, _) in name.match_indices('-') {
            let prefix = name.get(..=at).expect("a prefix");
            let json = format!(r#"{{"emit": {{"request_header_prefix": "{prefix}"}}}}"#);
            let refusal = refusal("span_attributes", &json).expect(prefix);
            let expected = "span_attributes.emit.request_header_prefix: ";
            assert!(refusal.starts_with(expected), "{prefix}: {refusal}");
        }
    }
}
