//! What is gathered from a request and a response, and how it leaves.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

use meshtrace_attributes::{Attributes, Counter, Tally};
use meshtrace_headers::{Arena, Change, Edits, Headers, encode};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn compile(json: &str) -> Attributes {
    let config = meshtrace_config::read(json.as_bytes()).expect("a configuration");
    let environment = |name: &str| match name {
        "REGION" => Some(b"eu-1".to_vec()),
        "BYTES" => Some(b"\xff".to_vec()),
        "EMPTY" => Some(Vec::new()),
        _ => None,
    };
    Attributes::new(&config, &environment).expect("one that compiles")
}

fn pairs(gathered: &[meshtrace_attributes::Attribute<'_>]) -> Vec<(String, String)> {
    gathered
        .iter()
        .map(|attribute| (attribute.key.to_owned(), attribute.value.to_owned()))
        .collect()
}

/// The attributes of a request with these headers and properties.
fn gathered(
    attributes: &Attributes,
    lines: &[(&str, &str)],
    properties: &[Option<Box<[u8]>>],
) -> (Vec<(String, String)>, Tally) {
    let block = encode(lines);
    let (arena, mut tally) = (Arena::new(), Tally::default());
    let headers = Headers::parse(&block).unwrap();
    let gathered = attributes.of_request(headers, properties, &arena, &mut tally);
    (pairs(&gathered), tally)
}

fn one(attribute: &str, lines: &[(&str, &str)]) -> (Option<String>, Tally) {
    let json = format!(r#"{{"attributes": [{{"key": "a", {attribute}}}]}}"#);
    let (mut found, tally) = gathered(&compile(&json), lines, &[]);
    (found.pop().map(|(_, value)| value), tally)
}

#[test]
fn the_defaults_are_two_headers() {
    let attributes = compile("");
    let lines = [
        ("x-tenant-id", "acme"),
        ("x-user-id", "alice"),
        ("x-user-id", "bob"),
    ];
    let (found, tally) = gathered(&attributes, &lines, &[]);
    let expected = [("user.id", "alice"), ("tenant.id", "acme")];
    assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    assert!(tally.has(Counter::Found) && !tally.has(Counter::NotFound));

    let (found, tally) = gathered(&attributes, &[], &[]);
    assert!(found.is_empty());
    assert!(tally.has(Counter::NotFound) && !tally.has(Counter::Found));
}

#[test]
fn a_default_takes_the_place_of_what_is_absent_empty_or_not_allowed() {
    let with = |value| [("h", value)];
    for (attribute, lines, expected) in [
        (
            r#""from": {"header": "h"}, "default": "d""#,
            &[][..],
            Some("d"),
        ),
        (
            r#""from": {"header": "h"}, "default": "d""#,
            &with(""),
            Some("d"),
        ),
        (
            r#""from": {"header": "h"}, "default": "d""#,
            &with("v"),
            Some("v"),
        ),
        (
            r#""from": {"header": "h"}, "transform": ["trim"], "default": "D ""#,
            &with("  "),
            Some("D "),
        ),
        (
            r#""from": {"header": "h"}, "transform": [{"replace": {"pattern": ".*", "with": ""}}], "default": "d""#,
            &with("v"),
            Some("d"),
        ),
        (
            r#""from": {"header": "h"}, "transform": [{"allow": ["x"]}], "default": "d""#,
            &with("v"),
            Some("d"),
        ),
        (
            r#""from": {"header": "h"}, "transform": [{"allow": ["x"]}]"#,
            &with("v"),
            None,
        ),
        // A hash without its key is dropped, and no default says that there was none.
        (
            r#""from": {"header": "h"}, "transform": [{"hmac_sha256": {"key_env": "NONE"}}], "default": "d""#,
            &with("v"),
            None,
        ),
        // Nothing is hashed where there is nothing.
        (
            r#""from": {"header": "h"}, "transform": ["trim", {"hmac_sha256": {"key_env": "REGION"}}], "default": "d""#,
            &with(" "),
            Some("d"),
        ),
        (r#""from": {"env": "REGION"}"#, &[], Some("eu-1")),
        (
            r#""from": {"env": "EMPTY"}, "default": "d""#,
            &[],
            Some("d"),
        ),
        (
            r#""from": {"env": "UNSET"}, "default": "d""#,
            &[],
            Some("d"),
        ),
        (r#""from": {"env": "BYTES"}"#, &[], Some("\u{fffd}")),
        (
            r#""from": {"literal": "L"}, "transform": ["lowercase"]"#,
            &[],
            Some("l"),
        ),
        (r#""from": {"literal": ""}"#, &[], None),
    ] {
        let (found, _) = one(attribute, lines);
        assert_eq!(found.as_deref(), expected, "{attribute} {lines:?}");
    }
}

#[test]
fn values_are_cut_to_their_length_between_characters() {
    let long = "é".repeat(200);
    let (found, tally) = one(r#""from": {"header": "h"}"#, &[("h", &long)]);
    assert_eq!(found.unwrap(), "é".repeat(128));
    assert!(tally.has(Counter::Truncated));
    let (found, _) = one(
        r#""from": {"header": "h"}, "max_length": 3"#,
        &[("h", "éé")],
    );
    assert_eq!(found.unwrap(), "é");
}

#[test]
fn properties_come_in_the_order_in_which_they_are_asked_for_and_each_once() {
    let attributes = compile(
        r#"{"attributes": [
            {"key": "a", "from": {"property": ["xds", "cluster_name"]}},
            {"key": "b", "from": {"property": ["connection", "mtls"]}},
            {"key": "c", "from": {"property": ["xds", "cluster_name"]}, "default": "none"},
            {"key": "d", "from": {"property": ["response", "code"]}},
            {"key": "e", "from": {"property": ["upstream", "address"]}}
        ]}"#,
    );
    let joined = |paths: &[Box<[u8]>]| paths.iter().map(|p| p.to_vec()).collect::<Vec<_>>();
    assert_eq!(
        joined(attributes.request_properties()),
        [&b"xds\0cluster_name"[..], b"connection\0mtls"]
    );
    assert_eq!(
        joined(attributes.response_properties()),
        [&b"response\0code"[..], b"upstream\0address"]
    );
    assert!(!attributes.needs_response_headers());

    let some = |bytes: &[u8]| Some(Box::from(bytes));
    let (found, _) = gathered(&attributes, &[], &[some(b"shop"), some(&[1])]);
    let values: Vec<_> = found.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, ["shop", "true", "shop"]);
    // A host that answers less than it was asked for.
    let (found, _) = gathered(&attributes, &[], &[]);
    assert_eq!(found, [("c".to_owned(), "none".to_owned())]);

    let (arena, mut tally) = (Arena::new(), Tally::default());
    let answers = [some(&503_i64.to_le_bytes()), None];
    let found = attributes.of_response(Headers::default(), &answers, &arena, &mut tally);
    assert_eq!(pairs(&found), [("d".to_owned(), "503".to_owned())]);
    assert_eq!(tally, Tally::default());
}

#[test]
fn the_template_of_a_path_is_the_first_one_that_fits_as_it_is_written() {
    let attributes = compile(
        r#"{"attributes": [
            {"key": "a", "from": {"header": "x"}},
            {"key": "b", "from": {"path": "/users/{id}", "capture": "id"}},
            {"key": "c", "from": {"path": "/users/{user}/**", "capture": "user"}},
            {"key": "d", "from": {"path": "/*/{id}/items", "capture": "id"}}
        ]}"#,
    );
    for (path, expected) in [
        ("/users/7", Some("/users/{id}")),
        ("/users/7?a=/b", Some("/users/{id}")),
        ("/users/%2e%ff", Some("/users/{id}")),
        ("/users/7/items", Some("/users/{user}/**")),
        ("/carts/7/items", Some("/*/{id}/items")),
        ("/carts/7", None),
        ("", None),
    ] {
        let block = encode(&[(":path", path)]);
        let headers = Headers::parse(&block).unwrap();
        assert_eq!(attributes.template(&headers), expected, "{path}");
    }
    assert_eq!(attributes.template(&Headers::default()), None);
    let none = compile("{}");
    let block = encode(&[(":path", "/users/7")]);
    assert_eq!(none.template(&Headers::parse(&block).unwrap()), None);
}

#[test]
fn response_headers_are_of_the_response() {
    let attributes =
        compile(r#"{"attributes": [{"key": "a", "from": {"response_header": "X-A"}}]}"#);
    assert!(attributes.needs_response_headers());
    let (found, _) = gathered(&attributes, &[("x-a", "request")], &[]);
    assert!(found.is_empty());
    let block = encode(&[("x-a", "response")]);
    let (arena, mut tally) = (Arena::new(), Tally::default());
    let headers = Headers::parse(&block).unwrap();
    let found = attributes.of_response(headers, &[], &arena, &mut tally);
    assert_eq!(pairs(&found), [("a".to_owned(), "response".to_owned())]);
}

/// What is written into the request's headers: `name: value`.
fn written(json: &str, lines: &[(&str, &str)]) -> (Vec<String>, Tally) {
    let attributes = compile(json);
    let block = encode(lines);
    let (arena, mut tally) = (Arena::new(), Tally::default());
    let headers = Headers::parse(&block).unwrap();
    let found = attributes.of_request(headers, &[], &arena, &mut tally);
    let mut edits = Edits::new_in(&arena, 8);
    attributes.write_headers(&found, headers, &arena, &mut edits, &mut tally);
    let families = edits.families().iter();
    let removed = families.map(|prefix| format!("{}*: removed", prefix.escape_ascii()));
    let written = edits.iter().map(|edit| {
        let Change::Replace(value) = &edit.change else {
            return format!("-{}", edit.name.escape_ascii());
        };
        format!(
            "{}: {}",
            edit.name.escape_ascii(),
            value.as_bytes().escape_ascii()
        )
    });
    (removed.chain(written).collect(), tally)
}

#[test]
fn headers_have_dashes_for_dots_and_a_clients_own_are_counted() {
    let json = r#"{"emit": {"request_header_prefix": "X-Attr-"}}"#;
    let (left, tally) = written(json, &[("x-user-id", "alice")]);
    assert_eq!(left, ["x-attr-user-id: alice"]);
    assert!(!tally.has(Counter::HeadersRemoved));
    let (left, tally) = written(json, &[("x-attr-user-id", "mallory")]);
    assert_eq!(left, ["x-attr-*: removed"]);
    assert!(tally.has(Counter::HeadersRemoved));
}

#[test]
fn baggage_keeps_what_came_and_has_each_key_once() {
    let json = r#"{"emit": {"baggage": true}}"#;
    for (lines, expected) in [
        (&[("x-user-id", "alice")][..], Some("user.id=alice")),
        (
            &[("x-user-id", "a b\"%,;\\é")],
            Some(r"user.id=a%20b%22%25%2C%3B%5C%C3%A9"),
        ),
        (
            &[
                ("baggage", "a = 1 ; p=2 ,, user.id=x;p"),
                ("baggage", "b=2"),
                ("x-user-id", "alice"),
            ],
            Some("a = 1 ; p=2,b=2,user.id=alice"),
        ),
        (&[("baggage", "user.id=x")], None),
        (
            &[("baggage", "junk"), ("x-tenant-id", "t")],
            Some("tenant.id=t"),
        ),
    ] {
        let (left, _) = written(json, lines);
        let expected: Vec<_> = expected
            .iter()
            .map(|list| format!("baggage: {list}"))
            .collect();
        let expected: Vec<_> = expected.iter().map(|l| l.replace('\\', "\\\\")).collect();
        assert_eq!(left, expected, "{lines:?}");
    }
}

/// W3C Baggage, section 3.3.2.
#[test]
fn baggage_that_is_full_stays_as_it_is() {
    let json = r#"{"emit": {"baggage": true}}"#;
    let members: Vec<_> = (0..64).map(|i| format!("k{i}=v")).collect();
    for (list, fits) in [
        (members[..63].join(","), true),
        (members.join(","), false),
        (format!("k={}", "v".repeat(8192 - 16)), true),
        (format!("k={}", "v".repeat(8192 - 15)), false),
    ] {
        let lines = [("baggage", list.as_str()), ("x-user-id", "alice")];
        let (left, tally) = written(json, &lines);
        assert_eq!(!left.is_empty(), fits);
        assert_eq!(tally.has(Counter::BaggageFull), !fits);
        if fits {
            assert_eq!(left, [format!("baggage: {list},user.id=alice")]);
            assert!(left[0].len() <= "baggage: ".len() + 8192);
        }
    }
}

#[test]
fn an_arena_without_room_leaves_attributes_out() {
    let attributes = compile(r#"{"emit": {"baggage": true}}"#);
    let value = "v".repeat(200);
    let block = encode(&[("x-user-id", &value), ("x-tenant-id", &value)]);
    let arena = Arena::with_capacity(64);
    arena.set_allocation_limit(Some(arena.allocated_bytes()));
    let mut tally = Tally::default();
    // Whatever the first chunk holds, it is used up before.
    while arena.try_alloc(0_u8).is_ok() {}
    let headers = Headers::parse(&block).unwrap();
    let found = attributes.of_request(headers, &[], &arena, &mut tally);
    assert!(found.is_empty());
    assert!(tally.has(Counter::Dropped));
}
