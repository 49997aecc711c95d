//! `request_headers: "filter_state"`: which headers a configuration manages, what is said of them,
//! and what cannot be so.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail")]

use meshtrace_config::RequestHeaders;
use meshtrace_headers::{Headers, encode};
use meshtrace_pipeline::{
    AccessLogTrace, Arena, Composition, MeshTracing, NoHost, Outcome, Proxy, Request,
    RouteSampling, SpanAttributes, TraceContext,
};
use meshtrace_propagation::{Field, IdGenerator, Peer};

const TRACEPARENT: &str = "00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01";
const B3: &str = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1";

fn compiled<C: Composition>(json: &str) -> C {
    C::from_json(json.as_bytes(), &Proxy::UNKNOWN).expect(json)
}

fn refusal<C: Composition>(json: &str) -> String {
    let result = C::from_json(json.as_bytes(), &Proxy::UNKNOWN);
    result.err().expect(json).to_string()
}

/// The headers that may leave, and those that never do.
fn managed<C: Composition>(json: &str) -> (Vec<String>, Vec<String>) {
    let composition: C = compiled(json);
    let headers = composition.by_filter_state().expect("by filter state");
    let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
    (
        headers.leaving().map(text).collect(),
        headers.removed().map(text).collect(),
    )
}

/// What is said of a request: names and values in the order of the headers' names.
fn said<C: Composition>(json: &str, lines: &[(&str, &str)]) -> Vec<(String, String)> {
    let composition: C = compiled(json);
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
    composition.on_request(
        &request,
        &ids,
        &mut C::RequestState::default(),
        &mut outcome,
    );
    assert_eq!(outcome.request_headers, RequestHeaders::FilterState);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let written = outcome.headers.written();
    let mut said: Vec<_> = written.map(|(n, v)| (text(n), text(v))).collect();
    said.sort();
    said
}

#[test]
fn a_filter_manages_what_it_may_write_or_remove() {
    let (leaving, removed) = managed::<TraceContext>(r#"{"request_headers": "filter_state"}"#);
    // W3C's two and B3's six.
    let known = Field::ALL.iter().take(8);
    let expected: Vec<_> = known
        .map(|field| String::from_utf8_lossy(field.name()))
        .collect();
    assert_eq!(leaving, expected);
    assert!(removed.is_empty(), "{removed:?}");

    let (leaving, removed) = managed::<TraceContext>(
        r#"{"request_headers": "filter_state", "extract": ["tracecontext"], "inject": ["tracecontext"],
            "clear": ["b3", "sw8", "X-Internal"], "baggage_from": ["jaeger"],
            "overrides": [{"cluster": "c", "clear": ["b3", "baggage"]}]}"#,
    );
    let expected = ["traceparent", "tracestate", "sw8", "baggage", "x-internal"];
    assert_eq!(leaving, expected, "an override leaves what the top removes");
    assert_eq!(removed, ["b3"]);

    let vendors = r#"{"request_headers": "filter_state", "clear": ["skywalking", "lightstep"]}"#;
    let (leaving, removed) = managed::<TraceContext>(vendors);
    assert_eq!(leaving.len(), 8, "{leaving:?}");
    let names = ["x-ot-span-context", "sw8", "sw8-correlation", "sw8-x"];
    assert_eq!(removed.len(), names.len(), "{removed:?}");
    assert!(
        names
            .iter()
            .all(|name| removed.iter().any(|other| other == name))
    );

    let attributes = r#"{"request_headers": "filter_state",
                         "emit": {"request_header_prefix": "x-span-attr-", "baggage": true}}"#;
    let expected = ["x-span-attr-user-id", "x-span-attr-tenant-id", "baggage"];
    assert_eq!(managed::<SpanAttributes>(attributes).0, expected);

    let ids = r#"{"request_headers": "filter_state",
                  "ids": {"trace_id_header": "x-own-trace", "span_id_header": "x-own-span"}}"#;
    let (leaving, removed) = managed::<AccessLogTrace>(ids);
    assert_eq!((leaving.len(), removed.len()), (0, 2));

    let rules = r#"{"request_headers": "filter_state", "request_header": null,
                    "force": {"header": "x-force", "value_env": "FORCE"}}"#;
    assert_eq!(managed::<RouteSampling>(rules).1, ["x-force"]);

    let all = r#"{"request_headers": "filter_state", "report": {"cluster": "c"},
                  "sampling": {"force": {"header": "x-force", "value_env": "FORCE"}},
                  "span_attributes": {"emit": {"baggage": true}}}"#;
    let (leaving, removed) = managed::<MeshTracing>(all);
    assert_eq!((leaving.len(), removed.len()), (9, 1), "{leaving:?}");
}

#[test]
fn what_should_leave_is_said_of_every_managed_header_and_nothing_of_the_others() {
    let json = r#"{"request_headers": "filter_state", "inject": ["tracecontext"]}"#;
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let said = |lines: &[_]| said::<TraceContext>(json, lines);
    // Written anew, and beside it what is right already.
    assert_eq!(
        said(&[("b3", B3), ("x-other", "1")]),
        [pair("b3", B3), pair("traceparent", TRACEPARENT)]
    );
    // Right already, and several lines in one.
    let kept = [
        ("traceparent", TRACEPARENT),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
    ];
    assert_eq!(
        said(&kept),
        [
            pair("traceparent", TRACEPARENT),
            pair("tracestate", "a=1,b=2")
        ]
    );
    // Malformed: it goes, and what went with it.
    let malformed = [("traceparent", "00-zz"), ("tracestate", "a=1")];
    assert_eq!(said(&malformed), []);
}

#[test]
fn a_secret_and_a_clients_own_attribute_are_never_said() {
    let json = r#"{"request_headers": "filter_state", "report": {"cluster": "c"},
                   "sampling": {"force": {"header": "x-force", "value_env": "FORCE"}},
                   "trace_context": {"inject": []},
                   "span_attributes": {"emit": {"request_header_prefix": "x-attr-"}}}"#;
    let lines = [("x-force", "secret"), ("x-attr-user-id", "mallory")];
    assert_eq!(said::<MeshTracing>(json, &lines), []);
}

#[test]
fn what_cannot_be_so_is_refused_with_a_reason() {
    let upstream =
        r#"{"request_headers": "filter_state", "placement": "upstream", "tracer": "b3"}"#;
    let family = r#"{"request_headers": "filter_state", "clear": ["jaeger"]}"#;
    let ignore = r#"{"request_headers": "filter_state", "incoming": "ignore"}"#;
    let of_override = r#"{"request_headers": "filter_state",
                          "overrides": [{"cluster": "c", "clear": ["ottrace"]}]}"#;
    let key = r#"{"request_headers": "filter_state", "clear": ["trace_id"],
                  "overrides": [{"cluster": "c", "clear": []}]}"#;
    let attribute = r#"{"request_headers": "filter_state", "trace_context": {"incoming": "restart",
                        "clear": ["user.id"], "overrides": [{"cluster": "c", "clear": []}]},
                        "span_attributes": {}}"#;
    let decision = r#"{"attributes": [{"key": "sampling_decision", "from": {"literal": "1"}}]}"#;
    let by_prefix = "trace_context.request_headers: \"filter_state\" not with `incoming` \"ignore\", nor with `clear`";
    let header = r#"{"attributes": [{"key": "tracestate", "from": {"literal": "1"}}]}"#;
    for (refusal, expected) in [
        (
            refusal::<TraceContext>(upstream),
            "trace_context.request_headers: \"filter_state\" not with placement \"upstream\"",
        ),
        (
            refusal::<RouteSampling>(upstream),
            "route_sampling.request_headers: \"filter_state\" not with placement \"upstream\"",
        ),
        (refusal::<TraceContext>(family), by_prefix),
        (refusal::<TraceContext>(of_override), by_prefix),
        (refusal::<TraceContext>(ignore), by_prefix),
        (
            refusal::<TraceContext>(key),
            "trace_context.request_headers: \"filter_state\" not with a header trace_id",
        ),
        (
            refusal::<MeshTracing>(attribute),
            "mesh_tracing.request_headers: \"filter_state\" not with a header user.id",
        ),
        (
            refusal::<RouteSampling>(r#"{"request_headers": "filter_state"}"#),
            "route_sampling.request_headers: \"filter_state\" only with `request_header` null",
        ),
        (
            refusal::<MeshTracing>(r#"{"request_headers": "filter_state", "sampling": {}}"#),
            "mesh_tracing.sampling.request_headers: \"filter_state\" only with `request_header`",
        ),
        (
            refusal::<MeshTracing>(r#"{"trace_context": {"request_headers": "edit"}}"#),
            "mesh_tracing.trace_context.request_headers: expected at the top",
        ),
        (
            refusal::<SpanAttributes>(decision),
            "span_attributes.attributes[0].key: \"sampling_decision\" is the filter state of",
        ),
        (
            refusal::<SpanAttributes>(header),
            "span_attributes.attributes[0].key: \"tracestate\" is the filter state of a header",
        ),
        (
            refusal::<MeshTracing>(&format!(r#"{{"span_attributes": {header}}}"#)),
            "mesh_tracing.span_attributes.attributes[0].key: \"tracestate\" is the filter state",
        ),
        (
            refusal::<TraceContext>(r#"{"request_headers": "state"}"#),
            "trace_context.request_headers: unknown variant `state`, expected `edit` or `filter_state`",
        ),
    ] {
        assert!(refusal.starts_with(expected), "{refusal}");
    }
}

#[test]
fn by_default_the_headers_are_edited() {
    for json in ["{}", r#"{"request_headers": "edit"}"#] {
        assert!(compiled::<TraceContext>(json).by_filter_state().is_none());
        assert!(compiled::<MeshTracing>(json).by_filter_state().is_none());
    }
}

/// RFC 9113, section 8.2.3: a client may send its cookies in several lines.
#[test]
fn cookies_of_several_lines_are_joined_as_cookies() {
    let json = r#"{"request_headers": "filter_state", "inject": [],
        "overrides": [{"host": "third.example.com", "clear": ["cookie", "authorization"]}]}"#;
    let lines = |host| {
        [
            (":authority", host),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("cookie", "c=3; d=4"),
            ("authorization", "Bearer t"),
        ]
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        said::<TraceContext>(json, &lines("shop.example.com")),
        [
            pair("authorization", "Bearer t"),
            pair("cookie", "a=1; b=2; c=3; d=4")
        ]
    );
    assert_eq!(said::<TraceContext>(json, &lines("third.example.com")), []);
}
