//! `span_attributes` with the configuration that is rendered for each version: what is on the spans
//! that are exported.

use envoy_test_harness::client::Request;
use envoy_test_harness::{SpanKind, each_supported};
use meshtrace_test_support::common::TRACE;
use meshtrace_test_support::tracers::{Caller, Tracer};

use crate::tags::{self, Rig, jwt};

/// One attribute from every source, and every transformation.
const CONFIG: &str = r#"{
    "attributes": [
        {"key": "user.id", "from": {"header": "X-User-Id"}},
        {"key": "tenant.id", "from": {"header": "x-tenant-id"}, "default": "none"},
        {"key": "enduser.pseudo.id", "from": {"header": "x-user-id"},
         "transform": ["trim", "lowercase", {"hmac_sha256": {"key_env": "SPAN_KEY"}}]},
        {"key": "unkeyed", "from": {"header": "x-user-id"}, "transform": [{"hmac_sha256": {"key_env": "ABSENT"}}]},
        {"key": "plan", "from": {"header": "x-plan"},
         "transform": ["lowercase", {"allow": ["gold", "silver"]}], "default": "other"},
        {"key": "card", "from": {"header": "x-card"},
         "transform": [{"replace": {"pattern": "^(\\d{4})\\d+", "with": "$1***"}}, {"truncate": 6}]},
        {"key": "order.id", "from": {"path": "/orders/{id}/**", "capture": "id"}},
        {"key": "page", "from": {"query": "page"}, "max_length": 4},
        {"key": "session.id", "from": {"cookie": "sid"}},
        {"key": "member", "from": {"baggage": "member"}},
        {"key": "sub", "from": {"jwt_claim": {"claim": "sub"}}},
        {"key": "org", "from": {"jwt_claim": {"header": "authorization", "claim": ["org", "id"]}}},
        {"key": "http.route", "from": {"property": ["xds", "route_name"]}},
        {"key": "region", "from": {"env": "REGION"}},
        {"key": "team", "from": {"literal": "checkout"}},
        {"key": "answer.id", "from": {"response_header": "x-answer-id"}, "default": "unanswered"},
        {"key": "answer.status", "from": {"property": ["response", "code"]}}
    ],
    "emit": {"request_header_prefix": "x-span-attr-"}
}"#;

/// HMAC-SHA-256 of `alice` under the key `Jefe`, by openssl.
const ALICE: &str = "c826fd00e6fe4b67254ac9b16045d11355fd87cd00249c23521277b3e94b4d80";

const TRACERS: [Tracer; 2] = [Tracer::OpenTelemetry, Tracer::ZipkinB3];

fn rig(envoy: &envoy_test_harness::EnvoyBinary) -> Rig {
    let env = [("SPAN_KEY", "Jefe"), ("REGION", "eu-1")];
    Rig::start(envoy, CONFIG, &env)
}

/// The attributes of `CONFIG` that have a value without any source.
const WITHOUT_SOURCES: [(&str, &str); 4] = [
    ("tenant.id", "none"),
    ("plan", "other"),
    ("region", "eu-1"),
    ("team", "checkout"),
];

#[test]
fn every_source_reaches_the_server_span_and_the_client_span() {
    each_supported(|envoy| {
        let rig = rig(envoy);
        for tracer in TRACERS {
            let token = jwt(r#"{"sub": "s-1", "org": {"id": 7}}"#);
            let request = Request::get("/orders/42%2Fa/items?page=12345&x=1")
                .header("x-user-id", " Alice ")
                .header("x-tenant-id", "acme")
                .header("x-plan", "GOLD")
                .header("x-card", "4111111111111111")
                .header("cookie", "a=b; sid=s1")
                .header("baggage", "x=1,member=m%201;p=1")
                .header("authorization", format!("Bearer {token}"));
            let spans = rig.spans(tracer, &Caller::fresh(), request, 2);
            for kind in [SpanKind::Server, SpanKind::Client] {
                let span = spans.iter().find(|span| span.kind == kind);
                let span = span.unwrap_or_else(|| panic!("{rig}: no {kind:?} span"));
                let mut expected = vec![
                    ("user.id", "Alice"),
                    ("tenant.id", "acme"),
                    ("enduser.pseudo.id", ALICE),
                    ("plan", "gold"),
                    ("card", "4111**"),
                    ("order.id", "42/a"),
                    ("page", "1234"),
                    ("session.id", "s1"),
                    ("member", "m 1"),
                    ("sub", "s-1"),
                    ("org", "7"),
                    ("http.route", "orders"),
                    ("region", "eu-1"),
                    ("team", "checkout"),
                    ("answer.id", "a-1"),
                ];
                if rig.tags_read_filter_state() {
                    expected.push(("answer.status", "200"));
                }
                assert_eq!(rig.attributes(span), tags::map(&expected), "{rig} {kind:?}");
            }
        }
        assert_eq!(rig.counter("hmac_key_missing"), 2, "{rig}");
        assert_eq!(rig.counter("found"), 2, "{rig}");
        assert_eq!(rig.stat("wasmcustom.meshtrace.host_errors"), 0, "{rig}");
    });
}

#[test]
fn without_the_sources_there_are_only_defaults_and_constants() {
    each_supported(|envoy| {
        let rig = rig(envoy);
        for tracer in TRACERS {
            let request = Request::get("/bare").header("authorization", "Bearer opaque");
            for span in rig.spans(tracer, &Caller::fresh(), request, 2) {
                let mut expected = WITHOUT_SOURCES.to_vec();
                expected.push(("http.route", "bare"));
                // A response without a body ends the upstream's span before any filter sees it.
                if span.kind == SpanKind::Server {
                    expected.push(("answer.id", "unanswered"));
                    if rig.tags_read_filter_state() {
                        expected.push(("answer.status", "200"));
                    }
                }
                assert_eq!(rig.attributes(&span), tags::map(&expected), "{rig}");
            }
        }
        assert_eq!(rig.counter("jwt.malformed"), 2, "{rig}");
        assert_eq!(rig.counter("not_allowed"), 0, "{rig}");
    });
}

#[test]
fn odd_values_are_cut_and_cleaned() {
    let long = "x".repeat(300);
    let wide = "é".repeat(150);
    let cases: [(&[u8], Option<&str>); 8] = [
        (long.as_bytes(), Some(&long[..256])),
        (wide.as_bytes(), Some(&wide[..256])),
        ("Zoë 名前 🦀".as_bytes(), Some("Zoë 名前 🦀")),
        (b"caf\xe9", Some("caf\u{fffd}")),
        (b"\xff\xfe\xfd", Some("\u{fffd}\u{fffd}\u{fffd}")),
        (b"a\tb", Some("a\u{fffd}b")),
        (b"", None),
        (b"   ", None),
    ];
    each_supported(|envoy| {
        let rig = rig(envoy);
        for tracer in TRACERS {
            for (value, expected) in cases {
                let request = Request::get("/bare").header("x-user-id", value);
                for span in rig.spans(tracer, &Caller::fresh(), request, 2) {
                    let shown = value.escape_ascii();
                    assert_eq!(
                        span.attribute("user.id"),
                        expected,
                        "{rig} {tracer:?}: {shown}"
                    );
                }
            }
        }
        assert_eq!(rig.counter("truncated"), 4, "{rig}");
        assert_eq!(rig.counter("replaced"), 6, "{rig}");
    });
}

#[test]
fn whatever_bytes_a_source_has_the_request_passes() {
    let long = vec![b'a'; 50 * 1024];
    let values: [&[u8]; 8] = [
        b"\xff\xfe\xfd",
        b"\xc3\x28=\x80;,\xf0",
        b"Bearer \xff.\xff.\xff",
        b"Bearer e30.W1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1s.",
        b"",
        b"=;=,=%;%%,%C3=%28",
        "名=🦀;sid=🦀,member=%F0%9F".as_bytes(),
        &long,
    ];
    each_supported(|envoy| {
        let rig = rig(envoy);
        for name in [
            "x-user-id",
            "x-card",
            "cookie",
            "baggage",
            "authorization",
            "x-span-attr-plan",
        ] {
            for value in values {
                let answer = rig.send(TRACERS[0], &Request::get("/bare").header(name, value));
                assert_eq!(answer.status, 200, "{rig} {name}: {}", value.escape_ascii());
            }
        }
        for path in [
            "/orders/%ff%00",
            "/orders/%",
            "/orders/?page=%ff+%&page",
            "/orders?&&=&",
        ] {
            let answer = rig.send(TRACERS[0], &Request::get(path));
            assert_eq!(answer.status, 200, "{rig} {path}");
        }
        let many = (0..80).fold(Request::get("/bare"), |request, _| {
            request.header("baggage", "a=1")
        });
        assert_eq!(rig.send(TRACERS[0], &many).status, 200, "{rig}");
        assert_eq!(rig.stat("wasmcustom.meshtrace.host_errors"), 0, "{rig}");
    });
}

#[test]
fn requests_that_are_answered_locally_have_their_attributes() {
    each_supported(|envoy| {
        let rig = rig(envoy);
        for tracer in TRACERS {
            for (path, status) in [("/local", "200"), ("/nowhere", "404")] {
                let request = Request::get(path).header("x-user-id", "alice");
                let spans = rig.spans(tracer, &Caller::fresh(), request, 1);
                let span = &spans[0];
                assert_eq!(span.kind, SpanKind::Server);
                assert_eq!(span.attribute("user.id"), Some("alice"), "{rig} {path}");
                assert_eq!(span.attribute("enduser.pseudo.id"), Some(ALICE));
                assert_eq!(
                    span.attribute("answer.id"),
                    Some("unanswered"),
                    "{rig} {path}"
                );
                if rig.tags_read_filter_state() {
                    assert_eq!(
                        span.attribute("answer.status"),
                        Some(status),
                        "{rig} {path}"
                    );
                }
            }
        }
    });
}

#[test]
fn a_request_that_an_earlier_filter_refuses_has_none() {
    each_supported(|envoy| {
        let rig = rig(envoy);
        let request = Request::get("/denied").header("x-user-id", "alice");
        let spans = rig.spans(TRACERS[0], &Caller::fresh(), request, 1);
        // The native stand-in of 1.36 sees every response.
        let expected: &[_] = match rig.tags_read_filter_state() {
            true => &[],
            false => &[("answer.id", "unanswered")],
        };
        assert_eq!(rig.attributes(&spans[0]), tags::map(expected), "{rig}");
    });
}

#[test]
fn a_clients_headers_of_the_family_are_gone() {
    each_supported(|envoy| {
        let rig = rig(envoy);
        let mut request = Request::get("/bare")
            .header("x-user-id", "alice")
            .header("X-Span-Attr-User-Id", "mallory")
            .header("x-span-attr-user-id", "mallory")
            .header("x-span-attr-tenant-id", "other")
            .header("x-span-attrs", "kept");
        for i in 0..85 {
            request = request.header(format!("x-span-attr-{i}"), "mallory");
        }
        let spans = rig.spans(TRACERS[0], &Caller::fresh(), request, 2);
        for span in spans {
            assert_eq!(span.attribute("user.id"), Some("alice"), "{rig}");
            assert_eq!(span.attribute("tenant.id"), Some("none"), "{rig}");
        }
        let mut left: Vec<_> = rig.last_request().headers;
        left.retain(|(name, _)| name.to_ascii_lowercase().starts_with(b"x-span-attr"));
        let mut left: Vec<_> = left
            .iter()
            .map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii()))
            .collect();
        left.sort();
        let hash = format!("x-span-attr-enduser-pseudo-id: {ALICE}");
        let expected = [
            hash.as_str(),
            "x-span-attr-http-route: bare",
            "x-span-attr-plan: other",
            "x-span-attr-region: eu-1",
            "x-span-attr-team: checkout",
            "x-span-attr-tenant-id: none",
            "x-span-attr-user-id: alice",
            "x-span-attrs: kept",
        ];
        assert_eq!(left, expected, "{rig}");
        assert_eq!(rig.counter("headers_removed"), 1, "{rig}");
    });
}

#[test]
fn the_defaults_are_two_headers_in_filter_state_and_nothing_is_written() {
    each_supported(|envoy| {
        if !envoy.is_at_least(1, 37) {
            return;
        }
        let rig = Rig::start(envoy, "", &[]);
        let request = Request::get("/bare")
            .header("x-user-id", "alice")
            .header("x-tenant-id", "acme");
        for span in rig.spans(TRACERS[0], &Caller::fresh(), request, 2) {
            assert_eq!(span.attribute("user.id"), Some("alice"));
            assert_eq!(span.attribute("tenant.id"), Some("acme"));
        }
        let names: Vec<_> = rig.last_request().headers;
        assert!(!names.iter().any(|(name, _)| name.starts_with(b"x-span")));
    });
}

#[test]
fn baggage_takes_the_attributes_and_keeps_what_came() {
    let config = r#"{"emit": {"baggage": true}}"#;
    each_supported(|envoy| {
        if !envoy.is_at_least(1, 37) {
            return;
        }
        let rig = Rig::start(envoy, config, &[]);
        let request = Request::get("/bare")
            .header("x-user-id", "Zoë, 50%")
            .header("baggage", "a=1;p=2, user.id=mallory")
            .header("baggage", "b=%20");
        rig.spans(TRACERS[0], &Caller::fresh(), request, 2);
        let left = rig.last_request();
        assert_eq!(left.header_values("baggage").len(), 1);
        assert_eq!(
            left.header_text("baggage").as_deref(),
            Some("a=1;p=2,b=%20,user.id=Zo%C3%AB%2C%2050%25")
        );
        assert_ne!(left.header_text("traceparent").as_deref(), Some(TRACE));
    });
}
