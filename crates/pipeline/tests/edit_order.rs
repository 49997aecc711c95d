//! What leaves where several stages of `mesh_tracing` name one header: the stage that runs later
//! counts.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail")]

use meshtrace_headers::{Change, Headers, encode};
use meshtrace_pipeline::{Arena, Composition, MeshTracing, NoHost, Outcome, Proxy, Request};
use meshtrace_propagation::{IdGenerator, Peer};

/// What becomes of the header `name`: nothing, `Some(None)` for its removal, or its new value.
fn change(json: &str, lines: &[(&str, &str)], name: &str) -> Option<Option<String>> {
    let filter = MeshTracing::from_json(json.as_bytes(), &Proxy::UNKNOWN).expect(json);
    let block = encode(lines);
    let arena = Arena::new();
    let mut outcome = Outcome::new_in(&arena);
    let request = Request {
        headers: Headers::parse(&block).unwrap(),
        peer: Peer::default(),
        cluster: None,
        properties: &[],
        clock: &NoHost,
        arena: &arena,
        shared: &NoHost,
    };
    let ids = IdGenerator::from_seed([7; 32]);
    filter.on_request(&request, &ids, &mut Default::default(), &mut outcome);
    let change = outcome.headers.change_of(name.as_bytes())?;
    Some(match change {
        Change::Remove => None,
        Change::Replace(value) | Change::Append(value) => {
            Some(String::from_utf8(value.as_bytes().to_vec()).unwrap())
        }
    })
}

fn written(text: &str) -> Option<Option<String>> {
    Some(Some(text.to_owned()))
}

const REMOVED: Option<Option<String>> = Some(None);

#[test]
fn the_header_for_the_proxy_s_tracer_stands_although_a_client_s_is_cleared() {
    let sampling = r#""sampling": {"default": "always"}"#;
    for stage in [
        r#"{"clear": ["x-envoy-force-trace"]}"#,
        r#"{"clear": ["x-envoy-force-trace"], "incoming": "ignore"}"#,
    ] {
        let json = format!(r#"{{{sampling}, "trace_context": {stage}}}"#);
        for lines in [&[][..], &[("x-envoy-force-trace", "client")]] {
            let change = change(&json, lines, "x-envoy-force-trace");
            assert_eq!(change, written("true"), "{json} {lines:?}");
        }
    }
}

#[test]
fn the_header_for_the_proxy_s_tracer_stands_under_an_attribute_s_name() {
    let json = r#"{"sampling": {"default": "always", "request_header": "x-span-attr-user-id"},
                   "span_attributes": {"emit": {"request_header_prefix": "x-span-attr-"}}}"#;
    let lines = [("x-user-id", "Alice")];
    assert_eq!(change(json, &lines, "x-span-attr-user-id"), written("true"));
}

#[test]
fn a_header_with_a_secret_is_removed_although_an_attribute_has_its_name() {
    for report in ["", r#""report": {"cluster": "c"},"#] {
        let json = format!(
            r#"{{{report} "sampling": {{"force": {{"header": "x-span-attr-user-id", "value_env": "KEY"}}}},
                "span_attributes": {{"emit": {{"request_header_prefix": "x-span-attr-"}}}}}}"#
        );
        let lines = [("x-span-attr-user-id", "secret"), ("x-user-id", "Alice")];
        assert_eq!(
            change(&json, &lines, "x-span-attr-user-id"),
            REMOVED,
            "{json}"
        );
    }
}

#[test]
fn a_helper_header_is_removed_although_a_format_has_its_name() {
    let json = r#"{"sampling": {"request_header": null, "ids": {"trace_id_header": "traceparent"}},
                   "trace_context": {"inject": ["tracecontext"]}}"#;
    let lines = [(
        "traceparent",
        "00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01",
    )];
    assert_eq!(change(json, &lines, "traceparent"), REMOVED);
}
