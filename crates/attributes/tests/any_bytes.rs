//! Whatever a client sends, values keep their promises.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use meshtrace_attributes::{Attributes, MAX_VALUE, Tally};
use meshtrace_headers::{Arena, Edits, Headers, encode};
use proptest::collection::vec;
use proptest::prelude::*;

const CONFIG: &str = r#"{
    "attributes": [
        {"key": "header", "from": {"header": "h"}},
        {"key": "lower", "from": {"header": "h"}, "transform": ["lowercase", "trim"]},
        {"key": "cut", "from": {"header": "h"}, "transform": [{"truncate": 7}], "max_length": 5},
        {"key": "hash", "from": {"header": "h"}, "transform": [{"hmac_sha256": {"key_env": "KEY"}}]},
        {"key": "replace", "from": {"header": "h"},
         "transform": [{"replace": {"pattern": "(a|é)*(.)", "with": "$2${1}xyz"}}]},
        {"key": "allow", "from": {"header": "h"}, "transform": [{"allow": ["a"]}], "default": "d"},
        {"key": "cookie", "from": {"cookie": "c"}},
        {"key": "query", "from": {"query": "q"}},
        {"key": "path", "from": {"path": "/{id}/**", "capture": "id"}},
        {"key": "baggage", "from": {"baggage": "b"}},
        {"key": "claim", "from": {"jwt_claim": {"claim": "sub"}}},
        {"key": "nested", "from": {"jwt_claim": {"claim": ["a", "b"]}}},
        {"key": "code", "from": {"property": ["xds", "listener_direction"]}},
        {"key": "mtls", "from": {"property": ["connection", "mtls"]}}
    ],
    "emit": {"request_header_prefix": "x-attr-", "baggage": true}
}"#;

/// Bytes that look like something.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        vec(any::<u8>(), 0..8),
        Just(b"a".to_vec()),
        Just(b"=".to_vec()),
        Just(b";".to_vec()),
        Just(b",".to_vec()),
        Just(b"%".to_vec()),
        Just(b"%C3%A9".to_vec()),
        Just("é".as_bytes().to_vec()),
        Just(b"/".to_vec()),
        Just(b"?q=".to_vec()),
        Just(b"b=".to_vec()),
        Just(b"c=".to_vec()),
        Just(b"Bearer ".to_vec()),
        Just(b".".to_vec()),
        Just(b"x".repeat(300)),
    ];
    vec(pieces, 0..20).prop_map(|pieces| pieces.concat())
}

/// JSON that may be a payload.
fn payload() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        "[\\PC]{0,6}",
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("\"sub\":".to_owned()),
        Just("\"a\":{\"b\":".to_owned()),
        Just("\"\\u00e9\\ud800\"".to_owned()),
        Just("-1.5e9".to_owned()),
        Just("true".to_owned()),
        Just(",".to_owned()),
        Just("[".repeat(40)),
    ];
    vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn values_are_bounded_text_without_control_characters(
        values in vec(bytes(), 6),
        payload in payload(),
        is_token in any::<bool>(),
        properties in vec(proptest::option::of(vec(any::<u8>(), 0..10)), 0..3),
    ) {
        let config = meshtrace_config::read(CONFIG.as_bytes()).expect("a configuration");
        let environment = |_: &str| Some(b"key".to_vec());
        let attributes = Attributes::new(&config, &environment).expect("one that compiles");

        let mut lines: Vec<_> = [&b"h"[..], b"cookie", b":path", b"baggage", b"authorization", b"x-attr-header"]
            .into_iter()
            .map(<[u8]>::to_vec)
            .zip(values)
            .collect();
        if is_token {
            let token = format!("e30.{}.", URL_SAFE_NO_PAD.encode(&payload));
            lines.insert(0, (b"authorization".to_vec(), token.into_bytes()));
        }
        let block = encode(&lines);
        let headers = Headers::parse(&block).expect("a block");
        let properties: Vec<_> = properties.into_iter().map(|p| p.map(Vec::into_boxed_slice)).collect();
        let (arena, mut tally) = (Arena::new(), Tally::default());
        let found = attributes.of_request(headers, &properties, &arena, &mut tally);
        for attribute in &found {
            let value = attribute.value;
            prop_assert!((1..=MAX_VALUE).contains(&value.len()), "{attribute:?}");
            prop_assert!(!value.contains(char::is_control), "{attribute:?}");
            match attribute.key {
                "cut" => prop_assert!(value.len() <= 5),
                "hash" => prop_assert_eq!(value.len(), 64),
                "allow" => prop_assert!(value == "a" || value == "d"),
                _ => {}
            }
        }
        let mut edits = Edits::new_in(&arena, 40);
        attributes.write_headers(&found, headers, &arena, &mut edits, &mut tally);
        prop_assert!(!edits.overflowed());
    }
}
