//! Configurations that are refused, and what is said about them.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail")]

use meshtrace_attributes::{Attributes, SpanAttributesConfig};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn compile(json: &str) -> Result<(), String> {
    meshtrace_config::read::<SpanAttributesConfig>(json.as_bytes())
        .and_then(|config| Attributes::new(&config, &|_| None))
        .map(drop)
        .map_err(|error| error.below("span_attributes").to_string())
}

/// A configuration whose second attribute has `from`.
fn second(from: &str) -> String {
    let first = r#"{"key": "a", "from": {"literal": "1"}}"#;
    format!(r#"{{"attributes": [{first}, {{"key": "b", "from": {from}}}]}}"#)
}

#[test]
fn sources_are_refused_with_their_path() {
    for (from, expected) in [
        (
            r#"{"cookies": "a"}"#,
            "from: unknown source \"cookies\", expected one of `header`, `response_header`, `cookie`, `query`, \
             `path` (with `capture`), `baggage`, `jwt_claim`, `property`, `env`, `literal`",
        ),
        (
            r#""x-user-id""#,
            "from: invalid type: string \"x-user-id\", expected an object with one source",
        ),
        ("{}", "from: no source, expected one of `header`"),
        (
            r#"{"header": "a", "env": "B"}"#,
            "from: more than one source, expected one",
        ),
        (
            r#"{"header": "a", "capture": "b"}"#,
            "from: more than one source, expected one",
        ),
        (
            r#"{"header": 1}"#,
            "from.header: invalid type: integer `1`, expected a string",
        ),
        (
            r#"{"header": "a b"}"#,
            "from.header: invalid value: string \"a b\", expected the name of a header",
        ),
        (r#"{"header": ""}"#, "from.header: invalid value"),
        (
            r#"{"response_header": ":"}"#,
            "from.response_header: invalid value",
        ),
        (r#"{"cookie": ""}"#, "from.cookie: empty, expected a name"),
        (r#"{"query": ""}"#, "from.query: empty"),
        (r#"{"baggage": ""}"#, "from.baggage: empty"),
        (r#"{"env": ""}"#, "from.env: empty"),
        (r#"{"path": "/{id}"}"#, "from: missing field `capture`"),
        (r#"{"capture": "id"}"#, "from: missing field `path`"),
        (
            r#"{"path": "/a", "capture": "id"}"#,
            "from.capture: invalid value: string \"id\"",
        ),
        (
            r#"{"path": "a", "capture": "id"}"#,
            "from.path: invalid value: string \"a\"",
        ),
        (r#"{"property": []}"#, "from.property: not a path"),
        (
            r#"{"property": "xds"}"#,
            "from.property: invalid type: string \"xds\", expected a list",
        ),
        (
            r#"{"jwt_claim": {"claim": []}}"#,
            "from.jwt_claim.claim: empty",
        ),
        (
            r#"{"jwt_claim": {}}"#,
            "from.jwt_claim: missing field `claim`",
        ),
        (
            r#"{"jwt_claim": {"claim": 1}}"#,
            "from.jwt_claim.claim: invalid type: integer `1`, expected the name",
        ),
        (
            r#"{"jwt_claim": {"name": "a"}}"#,
            "from.jwt_claim.name: unknown field `name`, expected `header` or `claim`",
        ),
        (
            r#"{"jwt_claim": {"claim": "a", "header": "a:b"}}"#,
            "from.jwt_claim.header: invalid value",
        ),
    ] {
        let refusal = compile(&second(from)).expect_err(from);
        let expected = format!("span_attributes.attributes[1].{expected}");
        assert!(refusal.starts_with(&expected), "{from}: {refusal}");
    }
}

#[test]
fn the_rest_is_refused_with_its_path() {
    let many: Vec<_> = (0..33)
        .map(|i| format!(r#"{{"key": "a{i}", "from": {{"literal": "1"}}}}"#))
        .collect();
    let many = format!(r#"{{"attributes": [{}]}}"#, many.join(","));
    let tokens: Vec<_> = (0..3)
        .map(|i| {
            let claim = format!(r#"{{"jwt_claim": {{"header": "h{i}", "claim": "sub"}}}}"#);
            format!(r#"{{"key": "a{i}", "from": {claim}}}"#)
        })
        .collect();
    let tokens = format!(r#"{{"attributes": [{}]}}"#, tokens.join(","));
    let with = |more: &str| {
        format!(r#"{{"attributes": [{{"key": "a", "from": {{"literal": "1"}}, {more}}}]}}"#)
    };
    let keys = |first: &str, second: &str, emit: &str| {
        let attribute = |key: &str| format!(r#"{{"key": "{key}", "from": {{"literal": "1"}}}}"#);
        format!(
            r#"{{"attributes": [{}, {}], "emit": {emit}}}"#,
            attribute(first),
            attribute(second)
        )
    };
    let prefix = |prefix: &str| format!(r#"{{"emit": {{"request_header_prefix": "{prefix}"}}}}"#);
    let lost = r#"{"attributes": [{"key": "a", "from": {"header": "X-User-Id"}}],
                   "emit": {"request_header_prefix": "x-user-"}}"#;
    let again = r#"{"attributes": [{"key": "id", "from": {"header": "x-user-id"}}],
                    "emit": {"request_header_prefix": "x-user-"}}"#;
    assert_eq!(compile(again), Ok(()));
    let response = r#"{"attributes": [{"key": "a", "from": {"response_header": "x"}}],
                       "emit": {"filter_state": false, "baggage": true}}"#;
    for (json, expected) in [
        (
            many.as_str(),
            "attributes[32]: one more attribute, expected at most 32",
        ),
        (
            &tokens,
            "attributes[2].from.jwt_claim.header: one more header with tokens, expected at most 2",
        ),
        (
            &keys("a", "a", "{}"),
            "attributes[1].key: \"a\" is listed before",
        ),
        (
            &keys("a", "1a", "{}"),
            "attributes[1].key: invalid value: string \"1a\"",
        ),
        (
            &keys("a", "", "{}"),
            "attributes[1].key: invalid value: string \"\"",
        ),
        (
            &keys("a", "b:c", "{}"),
            "attributes[1].key: invalid value: string \"b:c\"",
        ),
        (
            &keys("a", &"b".repeat(65), "{}"),
            "attributes[1].key: invalid value",
        ),
        (
            &keys("a", "trace_id", "{}"),
            "attributes[1].key: \"trace_id\" is the filter state of another filter",
        ),
        (
            &keys("a", "sampling_decision", "{}"),
            "attributes[1].key: \"sampling_decision\" is the filter state of another filter",
        ),
        (
            &keys("a", "trace_id_datadog", "{}"),
            "attributes[1].key: \"trace_id_datadog\" is the filter state of another filter",
        ),
        (
            &with(r#""default": "  ""#),
            "attributes[0].default: invalid value: string \"  \", expected 1 to 256 bytes without control",
        ),
        (
            &with(r#""transform": [{"replace": {"pattern": "/", "with": "\r\nx: y"}}]"#),
            "attributes[0].transform[0].replace.with: has the control character '\\r', expected text without any",
        ),
        (
            &with(r#""transform": [{"allow": ["a", "b\u007f"]}]"#),
            "attributes[0].transform[0].allow[1]: has the control character '\\u{7f}'",
        ),
        (
            r#"{"attributes": [{"key": "a", "from": {"literal": "a\u0000"}}]}"#,
            "attributes[0].from.literal: has the control character '\\0'",
        ),
        (
            &with(r#""transform": [{"hmac_sha256": "hunter2"}]"#),
            "attributes[0].transform[0].hmac_sha256: invalid type: string, expected",
        ),
        (
            &keys("a.b", "A-b", r#"{"request_header_prefix": "x-attr-"}"#),
            "attributes[1].key: its request header \"x-attr-a-b\" is that of attributes[0] too",
        ),
        (
            &with(r#""default": """#),
            "attributes[0].default: invalid value: string \"\"",
        ),
        (
            &with(r#""default": "a\n""#),
            "attributes[0].default: invalid value",
        ),
        (
            &with(r#""default": "abc", "max_length": 2"#),
            "attributes[0].default: invalid value: string \"abc\", expected 1 to 2",
        ),
        (
            &with(r#""max_length": 0"#),
            "attributes[0].max_length: invalid value: 0, expected 1 to 256",
        ),
        (
            &with(r#""max_length": 257"#),
            "attributes[0].max_length: invalid value: 257",
        ),
        (
            &with(r#""transform": ["upper"]"#),
            "attributes[0].transform[0]: unknown variant `upper`, expected one of `lowercase`",
        ),
        (
            &with(r#""transform": ["trim", {"truncate": 0}]"#),
            "attributes[0].transform[1].truncate: invalid value: 0",
        ),
        (
            &with(r#""transform": [{"hmac_sha256": {"key": "secret"}}]"#),
            "attributes[0].transform[0].hmac_sha256.key: unknown field",
        ),
        (
            &with(r#""form": {}"#),
            "attributes[0].form: unknown field `form`, expected one of `key`, `from`",
        ),
        (
            r#"{"attributes": [{"key": "a"}]}"#,
            "attributes[0]: missing field `from`",
        ),
        (
            r#"{"attribute": []}"#,
            "attribute: unknown field `attribute`, expected one of `attributes`, `emit`, `request_headers`",
        ),
        (
            r#"{"emit": {"filter_state": false}}"#,
            "emit: the attributes leave in no way",
        ),
        (
            response,
            "emit.filter_state: false, but attributes[0] comes from the response",
        ),
        (
            lost,
            "attributes[0].from.header: \"x-user-id\" begins with `emit.request_header_prefix`",
        ),
        (
            &prefix("x-"),
            "emit.request_header_prefix: \"x-\" would remove other headers",
        ),
        (
            &prefix("X-Forwarded-"),
            "emit.request_header_prefix: \"X-Forwarded-\" would remove other headers",
        ),
        (
            &prefix("x-envoy-attr-"),
            "emit.request_header_prefix: \"x-envoy-attr-\" would remove other headers",
        ),
        (
            &prefix("x-attr"),
            "emit.request_header_prefix: invalid value: string \"x-attr\"",
        ),
        (
            &prefix("uber-"),
            "emit.request_header_prefix: \"uber-\" would remove other headers (uber-trace-id…)",
        ),
        (
            &prefix("uberctx-"),
            "emit.request_header_prefix: \"uberctx-\" would remove other headers (uberctx-…)",
        ),
        (
            &prefix("ot-"),
            "emit.request_header_prefix: \"ot-\" would remove other headers",
        ),
        (
            &prefix("Transfer-"),
            "emit.request_header_prefix: \"Transfer-\" would remove other headers (transfer-encoding…)",
        ),
        (
            &prefix("keep-"),
            "emit.request_header_prefix: \"keep-\" would remove other headers (keep-alive…)",
        ),
        (&prefix(""), "emit.request_header_prefix: invalid value"),
        (&prefix(":x-"), "emit.request_header_prefix: invalid value"),
    ] {
        let refusal = compile(json).expect_err(json);
        let expected = format!("span_attributes.{expected}");
        assert!(refusal.starts_with(&expected), "{json}: {refusal}");
    }
}

#[test]
fn usual_configurations_are_taken() {
    for json in [
        "",
        "{}",
        r#"{"attributes": []}"#,
        r#"{"emit": {"request_header_prefix": "X-Span-Attr-", "baggage": true}}"#,
        r#"{"attributes": [{"key": "a", "from": {"header": ":authority"}, "default": "é", "max_length": 2}]}"#,
        r#"{"attributes": [{"key": "a", "from": {"path": "/{id}", "capture": "id"}}]}"#,
    ] {
        assert_eq!(compile(json), Ok(()), "{json}");
    }
}

#[test]
fn no_prefix_takes_along_what_applications_live_on() {
    let compiled = |prefix: &str| {
        compile(&format!(
            r#"{{"emit": {{"request_header_prefix": "{prefix}"}}}}"#
        ))
    };
    for prefix in [
        "upgrade-",
        "cache-",
        "max-",
        "last-",
        "access-",
        "if-",
        "sec-",
        "idempotency-",
        "accept-",
        "user-",
        "acme-attr-",
        "x-goog-",
        "X-Requested-",
        "x-csrf-",
        "x-xsrf-",
        "x-real-",
        "x-request-",
        "x-goog-attr-",
        "x-amz-meta-",
        "x-auth-request-",
        "x-cloud-trace-",
    ] {
        let refusal = compiled(prefix).expect_err(prefix);
        let expected = "span_attributes.emit.request_header_prefix: ";
        assert!(refusal.starts_with(expected), "{prefix}: {refusal}");
        assert!(refusal.contains("x-span-attr-"), "{prefix}: {refusal}");
    }
    for prefix in ["x-span-attr-", "x-acme-", "x-attr-"] {
        assert_eq!(compiled(prefix), Ok(()), "{prefix}");
    }
}
