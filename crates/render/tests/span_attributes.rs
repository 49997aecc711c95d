//! What the custom tags of `span_attributes` are rendered to.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail"
)]

use meshtrace_render::{EnvoyVersion, IstioTags, IstioVersion, TagLimit, envoy_tags, istio_tags};
use serde_json::{Value, json};

const CONFIG: &str = r#"{
    "attributes": [
        {"key": "user.id", "from": {"header": "x-user-id"}, "transform": [{"hmac_sha256": {"key_env": "SPAN_KEY"}}]},
        {"key": "region", "from": {"env": "REGION"}},
        {"key": "order.id", "from": {"response_header": "X-Order-Id"}, "default": "none"},
        {"key": "plan", "from": {"response_header": "x-plan"}, "transform": ["lowercase"]},
        {"key": "code", "from": {"property": ["response", "code"]}}
    ],
    "emit": {"request_header_prefix": "X-Span-Attr-"}
}"#;

fn istio(version: IstioVersion) -> IstioTags {
    istio_tags(CONFIG.as_bytes(), version).expect("manifests")
}

#[test]
fn from_1_37_on_every_attribute_is_a_tag_that_reads_filter_state() {
    for version in EnvoyVersion::ALL.iter().skip(1) {
        let rendered = envoy_tags(CONFIG.as_bytes(), *version, "a.wasm").expect("tags");
        let tag = |key| json!({"tag": key, "value": format!("%FILTER_STATE(wasm.{key}:PLAIN)%")});
        let expected = ["user.id", "region", "order.id", "plan", "code"].map(tag);
        assert_eq!(rendered.custom_tags, expected, "{version}");
        assert_eq!(rendered.http_filters.len(), 1);
        let on_server_span = TagLimit::ResponseOnServerSpan;
        assert_eq!(rendered.limits, [on_server_span]);
    }
}

#[test]
fn on_1_36_tags_read_headers_and_a_native_filter_stands_in_for_plain_response_headers() {
    let rendered = envoy_tags(CONFIG.as_bytes(), EnvoyVersion::V1_36, "a.wasm").expect("tags");
    let header = |key, name| json!({"tag": key, "request_header": {"name": name}});
    assert_eq!(
        rendered.custom_tags,
        [
            header("user.id", "x-span-attr-user-id"),
            header("region", "x-span-attr-region"),
            json!({"tag": "order.id", "metadata": {
                "kind": {"request": {}},
                "metadata_key": {"key": "meshtrace.span_attributes", "path": [{"key": "order.id"}]},
            }}),
        ]
    );
    let in_metadata = |more: Value| {
        let mut rule =
            json!({"metadata_namespace": "meshtrace.span_attributes", "key": "order.id"});
        let rule_object = rule.as_object_mut().expect("an object");
        rule_object.extend(more.as_object().expect("an object").clone());
        rule
    };
    assert_eq!(
        rendered.http_filters[1]["typed_config"]["response_rules"],
        json!([{
            "header": "x-order-id",
            "on_header_present": in_metadata(json!({})),
            "on_header_missing": in_metadata(json!({"value": "none"})),
        }])
    );
    let key = |key: &str| key.to_owned();
    let version = EnvoyVersion::V1_36;
    assert_eq!(
        rendered.limits,
        [
            TagLimit::ResponseHeaderAsItIs {
                key: key("order.id")
            },
            TagLimit::NotOnTheSpan {
                key: key("plan"),
                version
            },
            TagLimit::NotOnTheSpan {
                key: key("code"),
                version
            },
            TagLimit::ResponseOnServerSpan,
            TagLimit::HeadersGoOn {
                prefix: key("x-span-attr-")
            },
        ]
    );
}

#[test]
fn the_filter_has_the_configuration_that_the_tags_are_made_of() {
    for version in EnvoyVersion::ALL {
        let rendered = envoy_tags(CONFIG.as_bytes(), *version, "a.wasm").expect("tags");
        let plugin = &rendered.http_filters[0]["typed_config"]["config"];
        let text = plugin["configuration"]["value"]
            .as_str()
            .expect("JSON text");
        let written: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(
            written,
            serde_json::from_str::<Value>(CONFIG).expect("JSON")
        );
        assert_eq!(plugin["failure_policy"], "FAIL_RELOAD");
        assert_eq!(
            plugin["vm_config"],
            json!({
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": "a.wasm"}},
                "environment_variables": {"host_env_keys": ["REGION", "SPAN_KEY"]},
            })
        );
    }
}

#[test]
fn istio_gets_a_formatter_from_1_29_on_and_headers_before() {
    for version in IstioVersion::ALL.iter().skip(1) {
        let tags = istio(*version).custom_tags;
        let formatter = json!({"formatter": {"value": "%FILTER_STATE(wasm.order.id:PLAIN)%"}});
        assert_eq!(tags["order.id"], formatter, "{version}");
        assert_eq!(tags.len(), 5);
    }
    let oldest = istio(IstioVersion::V1_28);
    assert_eq!(
        Value::Object(oldest.custom_tags),
        json!({
            "user.id": {"header": {"name": "x-span-attr-user-id"}},
            "region": {"header": {"name": "x-span-attr-region"}},
        })
    );
    let missing = |key: &str| TagLimit::NotOnTheSpan {
        key: key.to_owned(),
        version: EnvoyVersion::V1_36,
    };
    for key in ["order.id", "plan", "code"] {
        assert!(oldest.limits.contains(&missing(key)), "{key}");
    }
}

#[test]
fn what_cannot_be_rendered_is_refused_with_its_path() {
    let refusal = |json: &str, version| {
        let refused = envoy_tags(json.as_bytes(), version, "a.wasm");
        refused.map(drop).expect_err(json).to_string()
    };
    let cases = [
        (
            "",
            EnvoyVersion::V1_36,
            "span_attributes.emit.request_header_prefix: null, but no tag of Envoy 1.36 reads filter state",
        ),
        (
            r#"{"emit": {"filter_state": false, "baggage": true}}"#,
            EnvoyVersion::V1_40,
            "span_attributes.emit: only `baggage`, which no tag reads",
        ),
        (
            r#"{"attributes": [{"key": "a", "from": {"cookies": "a"}}]}"#,
            EnvoyVersion::V1_40,
            "span_attributes.attributes[0].from: unknown source \"cookies\"",
        ),
        (
            r#"{"attributes": [{"key": "a b", "from": {"cookie": "a"}}]}"#,
            EnvoyVersion::V1_40,
            "span_attributes.attributes[0].key: invalid value",
        ),
        ("key: a", EnvoyVersion::V1_40, "span_attributes: not JSON ("),
    ];
    for (json, version, expected) in cases {
        let refusal = refusal(json, version);
        assert!(refusal.starts_with(expected), "{json}: {refusal}");
    }
}

#[test]
fn headers_alone_are_read_by_header_tags_on_every_version() {
    let json = r#"{"emit": {"filter_state": false, "request_header_prefix": "x-span-attr-"}}"#;
    for version in EnvoyVersion::ALL {
        let rendered = envoy_tags(json.as_bytes(), *version, "a.wasm").expect("tags");
        let header = json!({"tag": "user.id", "request_header": {"name": "x-span-attr-user-id"}});
        assert_eq!(rendered.custom_tags[0], header, "{version}");
    }
}
