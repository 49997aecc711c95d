//! What is said of a response that is not whole, and of a request whose headers Envoy has changed.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod common;

use std::collections::BTreeMap;

use common::{Collector, decode, exporter};
use meshtrace_headers::{Headers, encode};
use meshtrace_otlp::conventions::{End, EndValue, EndValues, Request, Seen};
use meshtrace_otlp::{Attributes, Kind, Span, Status};

/// The attributes as the published types read them.
fn read(attributes: &Attributes) -> BTreeMap<String, String> {
    let parts = [attributes];
    let span = Span {
        attributes: &parts,
        ..common::span(1, &Attributes::new())
    };
    let mut exporter = exporter(r#"{"cluster": "c"}"#);
    let mut collector = Collector::default();
    exporter.push(&span, 0);
    exporter.on_tick(1_000_000_000, &mut |call| collector.take(call));
    let request = decode(&collector.calls[0], false);
    let span = request.resource_spans[0].scope_spans[0].spans[0].clone();
    let text = |value| format!("{value:?}");
    let pairs = span.attributes.into_iter();
    pairs
        .map(|pair| (pair.key, text(pair.value.unwrap().value.unwrap())))
        .collect()
}

fn end(code: u64, flags: u64, details: &[u8], seen: Seen, kind: Kind) -> (Status, Vec<String>) {
    let (code, flags) = (code.to_le_bytes(), flags.to_le_bytes());
    let mut values = EndValues::default();
    values.set(EndValue::Code, Some(&code));
    values.set(EndValue::Flags, Some(&flags));
    values.set(EndValue::CodeDetails, Some(details));
    let mut attributes = Attributes::new();
    let status = End::new(&values, seen).describe(kind, &mut attributes);
    let described = read(&attributes);
    let keys = ["http.response.status_code", "error.type"];
    let told = keys.map(|key| described.get(key).cloned().unwrap_or_default());
    (status, told.to_vec())
}

const UC: u64 = 0x40;
const DC: u64 = 0x4000;
const CUT: &[u8] = b"upstream_reset_after_response_started{connection_termination}";

#[test]
fn the_code_of_a_call_is_the_upstreams_where_its_answer_was_seen() {
    let of = |answered| Seen {
        answered,
        ..Seen::default()
    };
    let (status, told) = end(503, UC, CUT, of(false), Kind::Client);
    assert_eq!(status, Status::Error);
    assert_eq!(told, ["", r#"StringValue("UC")"#]);
    let (_, told) = end(200, UC, CUT, of(true), Kind::Client);
    assert_eq!(told, ["IntValue(200)", r#"StringValue("UC")"#]);
    let (_, told) = end(302, 0, b"internal_redirect", of(false), Kind::Client);
    assert_eq!(told, ["IntValue(302)", ""]);
    let (_, told) = end(503, UC, CUT, of(false), Kind::Server);
    assert_eq!(told, ["IntValue(503)", r#"StringValue("503")"#]);
}

#[test]
fn an_informational_code_is_no_status() {
    let seen = Seen::default();
    for code in [0, 1, 100, 102, 103, 199, u64::MAX] {
        let (status, told) = end(
            code,
            DC,
            b"downstream_remote_disconnect",
            seen,
            Kind::Server,
        );
        assert_eq!(status, Status::Unset, "{code}");
        assert_eq!(told, ["", ""], "{code}");
    }
    for code in [101, 200, 599] {
        let (_, told) = end(code, DC, b"", seen, Kind::Server);
        assert_eq!(told[0], format!("IntValue({code})"));
    }
}

#[test]
fn a_number_that_grpc_does_not_have_is_as_unknown_is() {
    for kind in [Kind::Server, Kind::Client] {
        for status in [2, 17, 99, u32::MAX] {
            let mut attributes = Attributes::new();
            let end = End::new(&EndValues::default(), Seen::default());
            let end = end.with_grpc_status(Some(status));
            assert!(end.is_server_error(), "{status}");
            assert_eq!(end.describe(kind, &mut attributes), Status::Error);
            let described = read(&attributes);
            for key in ["rpc.response.status_code", "error.type"] {
                assert_eq!(described[key], r#"StringValue("UNKNOWN")"#, "{status}");
            }
        }
    }
}

/// Envoy's own answer to gRPC is 200 with a status, which only the caller got.
#[test]
fn a_status_of_envoys_own_answer_is_none_of_the_upstream() {
    let own: [(u64, &[u8], &str); 3] = [
        (0x40, b"upstream_reset_before_response_started", "UC"),
        (0, b"max_duration_timeout", "max_duration_timeout"),
        (0, b"via_upstream", "UNAVAILABLE"),
    ];
    for (flags, details, error) in own {
        let (code, flags) = (200_u64.to_le_bytes(), flags.to_le_bytes());
        let mut values = EndValues::default();
        values.set(EndValue::Code, Some(&code));
        values.set(EndValue::Flags, Some(&flags));
        values.set(EndValue::CodeDetails, Some(details));
        for kind in [Kind::Server, Kind::Client] {
            let is_told = kind == Kind::Server || details == b"via_upstream";
            let mut attributes = Attributes::new();
            let end = End::new(&values, Seen::default()).with_grpc_status(Some(14));
            assert_eq!(end.describe(kind, &mut attributes), Status::Error);
            let described = read(&attributes);
            let told = |key: &str| described.get(key).map(String::as_str);
            let status = is_told.then_some(r#"StringValue("UNAVAILABLE")"#);
            assert_eq!(told("rpc.response.status_code"), status, "{error}");
            let of_flags = format!(r#"StringValue("{error}")"#);
            assert_eq!(told("error.type"), status.or(Some(&of_flags)), "{error}");
        }
    }
}

#[test]
fn a_scheme_is_one_scheme_or_none() {
    for (sent, told) in [
        ("http", "http"),
        ("https", "https"),
        ("http,http", "http"),
        ("https,http", "https"),
        ("coap+tcp", "coap+tcp"),
        ("", ""),
        (",http", ""),
        ("1http", ""),
        ("ht tp", ""),
        ("http\u{e9}", ""),
    ] {
        let lines = [
            (":scheme", sent),
            (":authority", "shop.example"),
            (":path", "/a"),
        ];
        let block = encode(&lines);
        let request = Request::scan(&Headers::parse(&block).unwrap());
        assert_eq!(request.scheme, told.as_bytes(), "{sent:?}");
        let mut attributes = Attributes::new();
        request.describe_client(None, &mut attributes);
        let url = read(&attributes).get("url.full").cloned();
        let expected =
            (!told.is_empty()).then(|| format!(r#"StringValue("{told}://shop.example/a")"#));
        assert_eq!(url, expected, "{sent:?}");
    }
}

#[test]
fn the_url_before_a_redirect_is_read_or_is_none() {
    for (url, expected) in [
        (
            "http://a.example:81/b?c=d",
            Some(("http", "a.example:81", "/b?c=d")),
        ),
        ("https://a.example", Some(("https", "a.example", ""))),
        ("http,http://a/b", Some(("http", "a", "/b"))),
        ("http:/a/b", None),
        ("/a/b", None),
        ("", None),
        (":", None),
    ] {
        let block = encode(&[(":path", "/next"), ("x-envoy-original-url", url)]);
        let request = Request::scan(&Headers::parse(&block).unwrap());
        let before = request.before_redirect();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let parts = before.map(|b| (text(b.scheme), text(b.authority), text(b.target)));
        let expected = expected.map(|(s, a, t)| (s.to_owned(), a.to_owned(), t.to_owned()));
        assert_eq!(parts, expected, "{url:?}");
    }
}
