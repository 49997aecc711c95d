//! `mesh_tracing` with `sampling`: what leaves, and what is exported.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use meshtrace_headers::{Change, Headers, encode};
use meshtrace_pipeline::{
    ARENA_BYTES, Arena, Change as SharedChange, Clock, Composition, LoggedRequest, Lookup,
    MeshTracing, Outcome, Proxy, Request, RouteSampling, SharedData,
};
use meshtrace_propagation::{IdGenerator, Peer, tracestate};
use meshtrace_sampling::{Counter, OtelState, Randomness};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use proptest::prelude::*;
use prost::Message as _;

const S: &str = "00f067aa0ba902b7";
const SECOND: u64 = 1_000_000_000;
/// The first digits of a trace id; the right-most 56 bits follow.
const T: &str = "4bf92f3577b34da6a3";
/// Right-most 56 bits of a trace id that a half keeps, and of one that it does not.
const KEPT: &str = "ffffffffffffff";
const LOST: &str = "00000000000001";

type Lines = Vec<(String, Vec<u8>)>;

/// A host with a request that ends with `code`.
#[derive(Debug)]
struct Host {
    headers: Vec<u8>,
    code: u64,
    route: Option<&'static str>,
    cluster: Option<&'static str>,
    now: Cell<u64>,
    entries: RefCell<BTreeMap<Vec<u8>, [u8; 8]>>,
}

impl Clock for Host {
    fn monotonic(&self) -> Option<u64> {
        Some(self.now.get())
    }

    fn wall(&self) -> Option<u64> {
        self.monotonic()
    }
}

impl Lookup for Host {
    fn response_trailers(&self) -> Option<Box<[u8]>> {
        None
    }

    fn request_headers(&self) -> Option<Box<[u8]>> {
        Some(self.headers.as_slice().into())
    }

    fn property(&self, path: &[u8]) -> Option<Box<[u8]>> {
        let text = |text: Option<&str>| text.map(|text| text.as_bytes().into());
        match path {
            b"response\0code" => Some(Box::new(self.code.to_le_bytes())),
            b"response\0flags" => Some(Box::new([0; 8])),
            b"request\0duration" => Some(Box::new(SECOND.to_le_bytes())),
            b"xds\0route_name" => text(self.route),
            b"xds\0cluster_name" => text(self.cluster),
            _ => None,
        }
    }

    fn is_compiled(&self, _expression: usize) -> bool {
        false
    }

    fn evaluate(&self, _expression: usize) -> Option<Box<[u8]>> {
        None
    }
}

impl SharedData for Host {
    #[expect(clippy::disallowed_methods, reason = "a test may panic")]
    fn update(&self, key: &[u8], change: &mut SharedChange<'_>) -> bool {
        let mut entries = self.entries.borrow_mut();
        let entry = entries.get(key).map(<[u8; 8]>::as_slice);
        if let Some(new) = change(entry) {
            entries.insert(key.to_vec(), new);
        }
        true
    }
}

/// What a request left behind.
#[derive(Debug, Default)]
struct Left {
    /// The headers of the next hop.
    lines: Lines,
    spans: Vec<Span>,
    counted: Vec<Counter>,
    configured: Vec<String>,
}

impl Left {
    fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.lines.iter().filter(|(n, _)| n == name);
        let value = &lines.next()?.1;
        assert!(lines.next().is_none(), "more than one {name}");
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// The flag that the next hop is told, its trace id and its parent.
    fn traceparent(&self) -> (bool, String, String) {
        let text = self.header("traceparent").expect("a traceparent");
        let fields: Vec<_> = text.split('-').collect();
        let flags = u8::from_str_radix(fields[3], 16).expect("digits");
        (flags & 1 == 1, fields[1].to_owned(), fields[2].to_owned())
    }

    fn tracestate(&self) -> String {
        self.header("tracestate").unwrap_or_default()
    }

    fn attribute(&self, key: &str) -> Option<String> {
        let found = self.spans[0].attributes.iter().find(|a| a.key == key)?;
        match found.value.clone()?.value? {
            Value::StringValue(text) => Some(text),
            other => panic!("{other:?}"),
        }
    }
}

struct Filter {
    filter: MeshTracing,
    host: Host,
    ids: IdGenerator,
}

impl Filter {
    fn new(config: &str) -> Self {
        let key = |name: &str| (name == "KEY").then(|| b"hunter2".to_vec());
        let filter = MeshTracing::from_json(config.as_bytes(), &Proxy::with_environment(&key))
            .unwrap_or_else(|error| panic!("{config}: {error}"));
        Self {
            filter,
            host: Host {
                headers: Vec::new(),
                code: 200,
                route: None,
                cluster: None,
                now: Cell::new(SECOND),
                entries: RefCell::default(),
            },
            ids: IdGenerator::from_seed([9; 32]),
        }
    }

    /// With `report`, and `sampling` as given.
    fn sampling(sampling: &str) -> Self {
        Self::new(&config(sampling, ""))
    }

    fn run(&mut self, lines: &[(&str, &str)]) -> Left {
        let bytes = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
        let lines: Lines = lines.iter().map(bytes).collect();
        self.run_bytes(&lines, true)
    }

    /// A request from its headers, where the filter has `seen` them, to its exported spans.
    fn run_bytes(&mut self, lines: &Lines, seen: bool) -> Left {
        self.host.headers = encode(lines);
        let host = &self.host;
        let arena = Arena::with_capacity(ARENA_BYTES);
        arena.set_allocation_limit(Some(arena.allocated_bytes()));
        let mut state = Default::default();
        let mut left = Left {
            lines: lines.clone(),
            ..Left::default()
        };
        if seen {
            let needs = self.filter.needs();
            let paths = needs.request_properties.iter();
            let properties: Vec<_> = paths.map(|path| host.property(path)).collect();
            let cluster = needs.cluster.then(|| host.property(b"xds\0cluster_name"));
            let cluster = cluster.flatten();
            let request = Request {
                headers: Headers::parse(&host.headers).expect("a block"),
                peer: Peer::default(),
                cluster: cluster.as_deref(),
                properties: &properties,
                clock: host,
                arena: &arena,
                shared: host,
            };
            let mut outcome = Outcome::new_in(&arena);
            self.filter
                .on_request(&request, &self.ids, &mut state, &mut outcome);
            self.take(&outcome, &mut left);
        }
        host.now.set(host.now.get() + SECOND / 500);
        let end = LoggedRequest {
            request_headers: Headers::default(),
            lookup: host,
            ids: &self.ids,
            arena: &arena,
            shared: host,
        };
        let mut outcome = Outcome::new_in(&arena);
        self.filter.on_log(&end, &mut state, &mut outcome);
        assert!(outcome.headers.is_empty(), "it is too late for edits");
        self.take(&outcome, &mut left);
        left.spans = self.exported();
        left
    }

    fn take(&self, outcome: &Outcome<'_>, left: &mut Left) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(!outcome.headers.overflowed());
        for edit in outcome.headers.iter() {
            let name = text(edit.name);
            left.lines.retain(|(known, _)| *known != name);
            if let Change::Replace(value) = &edit.change {
                left.lines.push((name, value.as_bytes().to_vec()));
            }
        }
        let names = self.filter.counters();
        let name = |index: &usize| names[*index].replace("meshtrace.route_sampling.", "");
        left.configured.extend(outcome.configured.iter().map(name));
        left.counted.extend(outcome.tallies.sampling.iter());
    }

    fn exported(&self) -> Vec<Span> {
        let mut calls = Vec::new();
        let Some(background) = self.filter.background() else {
            return Vec::new();
        };
        background.on_tick(10 * SECOND, &mut |call| {
            calls.push(call.body.to_vec());
            Ok(u32::try_from(calls.len()).expect("few"))
        });
        let answer = encode(&[(":status", "200")]);
        for (_, token) in calls.iter().zip(1..) {
            let answer = meshtrace_pipeline::HttpCallResponse {
                headers: Headers::parse(&answer).expect("a block"),
                body: b"",
                trailers: Headers::default(),
                now: 10 * SECOND,
                wall: 10 * SECOND,
            };
            background.on_http_call_response(token, &answer, &mut |_| panic!("nothing waits"));
        }
        let decode = |body: &Vec<u8>| ExportTraceServiceRequest::decode(&body[..]).expect("OTLP");
        let resources = calls.iter().map(decode).flat_map(|r| r.resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }
}

/// With `more` keys of `report`.
fn config(sampling: &str, more: &str) -> String {
    format!(
        r#"{{"trace_context": {{"inject": ["tracecontext"]}}, "sampling": {sampling},
            "report": {{"cluster": "c"{more}}}}}"#
    )
}

/// A parent in W3C's format: the right-most 56 bits of its trace id, and its flags.
fn parent(randomness: &str, flags: &str) -> String {
    format!("00-{T}{randomness}-{S}-{flags}")
}

/// The hop's span is what its next hop is told: flag, parent, and list.
fn assert_in_force(left: &Left, what: &str) {
    let (sampled, trace_id, span_id) = left.traceparent();
    assert_eq!(left.spans.len(), usize::from(sampled), "{what}: {left:?}");
    for span in &left.spans {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(&span.trace_id), trace_id, "{what}");
        assert_eq!(hex(&span.span_id), span_id, "{what}");
        assert_eq!(span.flags & 1, 1, "{what}");
        // A key that came in twice is left to the next hop as it came.
        let left = left.tracestate();
        let members = tracestate::parse([left.as_bytes()].into_iter());
        let of_span = tracestate::parse([span.trace_state.as_bytes()].into_iter());
        assert_eq!(of_span.expect("a list"), members.expect("a list"), "{what}");
    }
}

#[test]
fn any_parent_policy_decides_about_this_hop_and_the_next() {
    for (policy, randomness, flag, state, left_flag, left_state) in [
        ("respect", LOST, "01", "a=1", true, "a=1"),
        (
            "respect",
            LOST,
            "01",
            "a=1,ot=th:8;rv:ffffffffffffff",
            true,
            "a=1,ot=th:8;rv:ffffffffffffff",
        ),
        ("respect", LOST, "01", "a=1,ot=th:8", true, "a=1"),
        ("respect", LOST, "01", "ot=th:8", true, ""),
        ("respect", LOST, "00", "ot=th:8,a=1", false, "ot=th:8,a=1"),
        ("respect", KEPT, "00", "ot=th:8,a=1", false, "a=1"),
        ("ignore", LOST, "01", "a=1,ot=th:0;x:1", false, "ot=x:1,a=1"),
        ("ignore", KEPT, "00", "a=1", true, "ot=th:8,a=1"),
        (
            "ignore",
            LOST,
            "00",
            "ot=rv:ffffffffffffff",
            true,
            "ot=th:8;rv:ffffffffffffff",
        ),
        ("ignore", KEPT, "01", "ot=th:8", true, "ot=th:8"),
        ("ignore", KEPT, "01", "ot=th:c", true, "ot=th:8"),
        ("respect_sampled", LOST, "01", "ot=th:0", true, "ot=th:0"),
        ("respect_sampled", KEPT, "00", "", true, "ot=th:8"),
        ("respect_sampled", LOST, "00", "", false, ""),
        ("respect_dropped", KEPT, "00", "", false, ""),
        ("respect_dropped", LOST, "01", "", false, ""),
        ("respect_dropped", KEPT, "01", "ot=th:c", true, "ot=th:c"),
    ] {
        let sampling = format!(r#"{{"parent": "{policy}", "default": {{"ratio": 0.5}}}}"#);
        let mut filter = Filter::sampling(&sampling);
        let traceparent = parent(randomness, flag);
        let mut lines = vec![("traceparent", traceparent.as_str())];
        if !state.is_empty() {
            lines.push(("tracestate", state));
        }
        let left = filter.run(&lines);
        let what = format!("{policy} {randomness} {flag} {state}");
        assert_eq!(left.traceparent().0, left_flag, "{what}");
        assert_eq!(left.tracestate(), left_state, "{what}");
        assert_in_force(&left, &what);
        let counted = match (flag, left_flag) {
            ("01", true) => Counter::ParentSampled,
            ("00", false) => Counter::ParentDropped,
            _ => Counter::ParentChanged,
        };
        assert_eq!(left.counted[0], counted, "{what}");
    }
}

#[test]
fn a_trace_of_which_nobody_has_decided_follows_its_rule() {
    let sampling = r#"{"rules": [
        {"name": "keep", "match": {"path": {"prefix": "/keep"}}, "sample": "always"},
        {"name": "drop", "match": {"path": {"prefix": "/drop"}}, "sample": "never"},
        {"name": "rate", "match": {"path": {"prefix": "/rate"}}, "sample": {"per_second": 1}}
    ], "default": "unchanged", "force": {"header": "x-force", "value_env": "KEY"}}"#;
    let mut filter = Filter::sampling(sampling);
    // A B3 caller that leaves the decision open, with a trace id that one in a hundred keeps.
    let open = format!("{T}{KEPT}-{S}");
    for (path, more, sampled, state, counted, configured) in [
        (
            "/keep",
            None,
            true,
            "ot=th:0",
            &[][..],
            &["rule.keep.sampled"][..],
        ),
        ("/drop", None, false, "", &[], &["rule.drop.dropped"]),
        ("/rate", None, true, "", &[], &["rule.rate.sampled"]),
        ("/rate", None, false, "", &[], &["rule.rate.dropped"]),
        (
            "/drop",
            Some(("x-force", "hunter2")),
            true,
            "",
            &[Counter::Forced],
            &[],
        ),
        (
            "/drop",
            Some(("x-force", "hunter3")),
            false,
            "",
            &[Counter::ForceRefused],
            &["rule.drop.dropped"],
        ),
        (
            "/",
            Some(("b3", open.as_str())),
            true,
            "ot=th:fd70a4",
            &[Counter::ParentDeferred],
            &["default.unchanged"],
        ),
        (
            "/drop",
            Some(("b3", open.as_str())),
            false,
            "",
            &[Counter::ParentDeferred],
            &["rule.drop.dropped"],
        ),
        // A decision without ids stands as one that has some.
        (
            "/keep",
            Some(("b3", "0")),
            false,
            "",
            &[Counter::ParentDropped],
            &[],
        ),
        (
            "/drop",
            Some(("b3", "1")),
            true,
            "",
            &[Counter::ParentSampled],
            &[],
        ),
        // A list of no trace that is continued stays behind.
        (
            "/keep",
            Some(("tracestate", "ot=th:8,a=1")),
            true,
            "ot=th:0",
            &[],
            &["rule.keep.sampled"],
        ),
    ] {
        let lines: Vec<_> = [(":path", path)].into_iter().chain(more).collect();
        let left = filter.run(&lines);
        let what = format!("{lines:?}");
        assert_eq!(left.traceparent().0, sampled, "{what}");
        assert_eq!(left.tracestate(), state, "{what}");
        assert_eq!(left.counted, counted, "{what}");
        assert_eq!(left.configured, configured, "{what}");
        assert_eq!(left.header("x-force"), None, "{what}");
        assert_in_force(&left, &what);
    }
}

#[test]
fn a_debugged_trace_that_a_rule_drops_is_no_longer_one() {
    let mut filter = Filter::new(
        r#"{"trace_context": {"inject": ["tracecontext", "b3"]}, "report": {"cluster": "c"},
            "sampling": {"parent": "ignore", "default": "never"}}"#,
    );
    let left = filter.run(&[("b3", &format!("{T}{KEPT}-{S}-d"))]);
    let (sampled, trace_id, span_id) = left.traceparent();
    assert!(!sampled);
    let b3 = format!("{trace_id}-{span_id}-0-{S}");
    assert_eq!(left.header("b3"), Some(b3));
}

#[test]
fn the_secret_keeps_a_callers_trace_too() {
    let mut filter = Filter::sampling(r#"{"force": {"header": "x-force", "value_env": "KEY"}}"#);
    for (flags, state, expected) in [
        ("00", "ot=th:8,a=1", "a=1"),
        ("00", "a=1", "a=1"),
        ("01", "ot=th:8,a=1", "ot=th:8,a=1"),
    ] {
        let traceparent = parent(KEPT, flags);
        let left = filter.run(&[
            ("traceparent", &traceparent),
            ("tracestate", state),
            ("x-force", "hunter2"),
        ]);
        assert!(left.traceparent().0, "{flags} {state}");
        assert_eq!(left.tracestate(), expected, "{flags} {state}");
        assert_eq!(left.header("x-force"), None);
        assert_in_force(&left, state);
    }
}

#[test]
fn a_never_rule_wins_over_keep_whoever_has_decided() {
    let rules = r#"{"rules": [
        {"match": {"path": {"exact": "/health"}}, "sample": "never"},
        {"match": {"path": {"exact": "/zero"}}, "sample": {"ratio": 0}},
        {"match": {"path": {"exact": "/tiny"}}, "sample": {"ratio": 0.000001}}
    ], "default": "never"}"#;
    for report in ["", r#", "keep": {"errors": false, "slower_than_ms": 1}"#] {
        let mut filter = Filter::new(&config(rules, report));
        filter.host.code = 503;
        for traceparent in [None, Some(parent(LOST, "00"))] {
            for (path, kept) in [("/health", 0), ("/zero", 0), ("/tiny", 1), ("/", 1)] {
                let traceparent = traceparent.as_deref();
                let lines = traceparent.map(|value| ("traceparent", value));
                let lines: Vec<_> = lines.into_iter().chain([(":path", path)]).collect();
                let left = filter.run(&lines);
                let what = format!("{report} {lines:?}");
                assert!(!left.traceparent().0, "{what}");
                assert_eq!(left.spans.len(), kept, "{what}");
            }
        }
        // Who decided to record is believed.
        let sampled = parent(LOST, "01");
        let left = filter.run(&[(":path", "/health"), ("traceparent", &sampled)]);
        assert_eq!(left.spans.len(), 1);
    }
}

#[test]
fn what_keep_reports_claims_no_probability() {
    let mut filter = Filter::sampling(r#"{"default": {"ratio": 0.5}}"#);
    filter.host.code = 500;
    for (flags, state) in [("00", "ot=th:8,a=1"), ("00", "a=1")] {
        let traceparent = parent(LOST, flags);
        let left = filter.run(&[("traceparent", &traceparent), ("tracestate", state)]);
        assert_eq!(left.tracestate(), state, "the head decision stands");
        let [span] = left.spans.as_slice() else {
            panic!("{left:?}");
        };
        assert_eq!((span.flags & 1, span.trace_state.as_str()), (0, ""));
        assert_eq!(left.attribute("meshtrace.kept").as_deref(), Some("error"));
    }
}

#[test]
fn what_no_callback_saw_is_decided_by_the_same_rules() {
    let rules = r#"{"rules": [
        {"name": "a", "match": {"route": "checkout"}, "sample": "always"},
        {"name": "b", "match": {"cluster": "ledger"}, "sample": "always"},
        {"name": "c", "match": {"path": {"template": "/users/{id}"}}, "sample": "always"},
        {"name": "d", "match": {"path": {"prefix": "/rate"}}, "sample": {"per_second": 1}},
        {"name": "e", "match": {"path": {"exact": "/health"}}, "sample": "never"}
    ], "default": {"ratio": 0.000001}, "parent": "respect_sampled",
       "force": {"header": "x-force", "value_env": "KEY"}}"#;
    let mut filter = Filter::sampling(rules);
    let case = |path: &str, more: &[(&str, &str)]| -> Lines {
        let lines = [(":path", path), (":method", "GET")];
        let lines = lines.iter().chain(more);
        lines
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect()
    };
    let sampled = parent(LOST, "01");
    let dropped = parent(LOST, "00");
    for (lines, route, cluster, configured, spans, state) in [
        (
            case("/", &[]),
            Some("checkout"),
            None,
            &["rule.a.sampled"][..],
            1,
            "ot=th:0",
        ),
        (
            case("/", &[]),
            None,
            Some("ledger"),
            &["rule.b.sampled"],
            1,
            "ot=th:0",
        ),
        (
            case("/users/7", &[]),
            None,
            None,
            &["rule.c.sampled"],
            1,
            "ot=th:0",
        ),
        (case("/rate", &[]), None, None, &["rule.d.sampled"], 1, ""),
        (case("/rate", &[]), None, None, &["rule.d.dropped"], 0, ""),
        (case("/health", &[]), None, None, &["rule.e.dropped"], 0, ""),
        (
            case("/health", &[("x-force", "hunter2")]),
            None,
            None,
            &[],
            1,
            "",
        ),
        (
            case("/health", &[("traceparent", &sampled)]),
            None,
            None,
            &[],
            1,
            "",
        ),
        (
            case("/", &[("traceparent", &dropped)]),
            Some("checkout"),
            None,
            &["rule.a.sampled"],
            1,
            "ot=th:0",
        ),
    ] {
        filter.host.route = route;
        filter.host.cluster = cluster;
        let left = filter.run_bytes(&lines, false);
        let what = format!("{lines:?} {route:?} {cluster:?}");
        assert_eq!(left.configured, configured, "{what}");
        assert_eq!(left.spans.len(), spans, "{what}");
        for span in &left.spans {
            assert_eq!(span.trace_state, state, "{what}");
        }
        let seen = filter.run_bytes(&lines, true);
        if !configured.contains(&"rule.d.sampled") {
            assert_eq!(seen.configured, left.configured, "{what}");
            assert_eq!(seen.spans.len(), spans, "{what}");
        }
    }
    filter.host.route = None;
    let left = filter.run_bytes(&case("/users/7", &[]), false);
    assert_eq!(left.spans[0].name, "GET /users/{id}");
}

#[test]
fn rules_and_attributes_each_get_the_properties_that_they_asked_for() {
    let stages = r#""span_attributes": {"attributes": [
            {"key": "cluster", "from": {"property": ["xds", "cluster_name"]}}]},
        "sampling": {"rules": [{"name": "route", "match": {"route": "checkout"}, "sample": "always"}],
            "default": "never"}"#;
    for (report, seen) in [
        (r#", "report": {"cluster": "c"}"#, true),
        (r#", "report": {"cluster": "c"}"#, false),
        ("", true),
    ] {
        let mut filter = Filter::new(&format!("{{{stages}{report}}}"));
        filter.host.cluster = Some("upstream");
        for (route, counted) in [
            (Some("checkout"), "rule.route.sampled"),
            (Some("upstream"), "default.dropped"),
            (None, "default.dropped"),
        ] {
            filter.host.route = route;
            let left = filter.run_bytes(&Vec::new(), seen);
            assert_eq!(left.configured, [counted], "{report} {seen} {route:?}");
            if let Some(span) = left.spans.first() {
                assert_eq!(span.trace_state, "ot=th:0");
                assert_eq!(left.attribute("cluster").as_deref(), Some("upstream"));
            }
            let reports = !report.is_empty() && route == Some("checkout");
            assert_eq!(left.spans.len(), usize::from(reports), "{route:?}");
        }
    }
}

#[test]
fn the_route_is_the_template_that_fits() {
    let stages = |role: &str| {
        format!(
            r#"{{"sampling": {{"rules": [
                {{"match": {{"path": {{"template": "/users/{{id}}"}}, "methods": ["GET"]}}, "sample": "never"}},
                {{"match": {{"path": {{"prefix": "/users"}}}}, "sample": "unchanged"}},
                {{"match": {{"path": {{"template": "/carts/{{cart}}"}}}}, "sample": "unchanged"}}
            ]}},
            "span_attributes": {{"attributes": [
                {{"key": "user", "from": {{"path": "/users/{{user}}/**", "capture": "user"}}}},
                {{"key": "item", "from": {{"path": "/carts/{{cart}}/items/{{item}}", "capture": "item"}}}}
            ]}},
            "report": {{"cluster": "c", "role": "{role}"}}}}"#
        )
    };
    for (role, key) in [("server", "http.route"), ("client", "url.template")] {
        let mut filter = Filter::new(&stages(role));
        for (method, path, route) in [
            ("GET", "/users/7?q=1", Some("/users/{id}")),
            ("POST", "/users/7", Some("/users/{user}/**")),
            ("GET", "/users/7/orders", Some("/users/{user}/**")),
            ("PUT", "/carts/1", Some("/carts/{cart}")),
            (
                "GET",
                "/carts/1/items/2",
                Some("/carts/{cart}/items/{item}"),
            ),
            ("GET", "/carts/1/items", None),
            ("GET", "/", None),
        ] {
            // Sampled, and kept although it is not; but for what the first rule says.
            for (flags, code) in [("01", 200), ("00", 503)] {
                filter.host.code = code;
                let traceparent = parent(LOST, flags);
                let lines = [
                    (":method", method),
                    (":path", path),
                    ("traceparent", &traceparent),
                ];
                let left = filter.run(&lines);
                let what = format!("{role} {method} {path} {flags}");
                if flags == "00" && route == Some("/users/{id}") {
                    assert!(left.spans.is_empty(), "{what}");
                    continue;
                }
                let name = route.map_or(method.to_owned(), |route| format!("{method} {route}"));
                assert_eq!(left.spans[0].name, name, "{what}");
                assert_eq!(left.attribute(key).as_deref(), route, "{what}");
                let other = if key == "http.route" {
                    "url.template"
                } else {
                    "http.route"
                };
                assert_eq!(left.attribute(other), None, "{what}");
            }
        }
    }
    let mut filter = Filter::new(&stages("gateway"));
    let traceparent = parent(LOST, "01");
    let lines = [
        (":method", "PUT"),
        (":path", "/carts/1"),
        ("traceparent", &traceparent),
    ];
    let left = filter.run(&lines);
    assert_eq!(left.spans.len(), 1, "no upstream was asked");
    assert_eq!(left.spans[0].kind(), SpanKind::Server);
    assert_eq!(
        left.attribute("http.route").as_deref(),
        Some("/carts/{cart}")
    );
}

#[test]
fn a_long_list_leaves_whole_and_is_exported_in_whole_members() {
    let mut filter = Filter::sampling(r#"{"parent": "ignore", "default": "always"}"#);
    let members: Vec<_> = (0..30)
        .map(|i| format!("m{i}={}", "x".repeat(30)))
        .collect();
    let traceparent = parent(KEPT, "01");
    let list = members.join(",");
    let left = filter.run(&[("traceparent", &traceparent), ("tracestate", &list)]);
    assert_eq!(left.tracestate(), format!("ot=th:0,{list}"));
    let exported = &left.spans[0].trace_state;
    assert!(exported.len() > 470 && exported.len() <= 512, "{exported}");
    assert!(
        left.tracestate().starts_with(&format!("{exported},")),
        "{exported}"
    );
}

#[test]
fn without_w3c_or_with_tracestate_cleared_nothing_is_written() {
    for context in [
        r#"{"inject": ["b3"], "extract": ["b3"]}"#,
        r#"{"inject": ["tracecontext"], "clear": ["tracestate"]}"#,
    ] {
        let mut filter = Filter::new(&format!(
            r#"{{"trace_context": {context}, "sampling": {{"default": "always"}}, "report": {{"cluster": "c"}}}}"#
        ));
        let left = filter.run(&[(":path", "/")]);
        assert_eq!(left.header("tracestate"), None, "{context}");
        assert_eq!(left.spans[0].trace_state, "ot=th:0", "{context}");
    }
}

/// Configurations of the stage, for a filter that reports.
const STAGES: [&str; 6] = [
    r#"{"default": {"ratio": 0.5}}"#,
    r#"{"default": "unchanged", "parent": "respect_dropped"}"#,
    r#"{"parent": "ignore", "default": "never", "rules": [
        {"match": {"path": {"template": "/users/{id}"}}, "sample": "always"}]}"#,
    r#"{"parent": "ignore", "default": {"ratio": 0.25}, "force": {"header": "x-force", "value_env": "KEY"}}"#,
    r#"{"parent": "respect_sampled", "rules": [
        {"match": {"headers": [{"name": "x-tenant", "present": true}]}, "sample": "never"},
        {"match": {"path": {"prefix": "/keep"}}, "sample": {"per_second": 1000}}]}"#,
    r#"{"parent": "respect_dropped", "default": {"ratio": 0.5}}"#,
];

fn line() -> impl Strategy<Value = (String, Vec<u8>)> {
    let name = prop_oneof![
        Just(":path"),
        Just(":method"),
        Just(":authority"),
        Just("traceparent"),
        Just("tracestate"),
        Just("b3"),
        Just("x-b3-sampled"),
        Just("x-force"),
        Just("x-tenant"),
        Just("x-envoy-force-trace"),
    ];
    let value = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        "/(keep|users)?/?[a-z?#/]{0,10}".prop_map(String::into_bytes),
        "00-4bf92f3577b34da6a3(00000000000001|ffffffffffffff|[0-9a-f]{14})-00f067aa0ba902b7-0[0-3]"
            .prop_map(String::into_bytes),
        "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7(-[01d])?".prop_map(String::into_bytes),
        "([a-d]=[a-z]{1,3},){0,4}(ot=(x:1;)?(th:[0-9a-f]{0,15};?)?(rv:[0-9a-f]{14})?,?)?[e-h]=1"
            .prop_map(String::into_bytes),
        Just(b"hunter2".to_vec()),
    ];
    (name.prop_map(str::to_owned), value)
}

fn others(members: &[tracestate::Member<'_>]) -> Vec<String> {
    let others = members.iter().filter(|member| member.key != OtelState::KEY);
    others
        .map(|member| {
            format!(
                "{}={}",
                member.key.escape_ascii(),
                member.value.escape_ascii()
            )
        })
        .collect()
}

proptest! {
    #[test]
    fn the_decision_is_in_force_and_its_probability_true(
        stage in 0..STAGES.len(),
        lines in proptest::collection::vec(line(), 0..8),
        code in prop_oneof![Just(200), Just(503)],
        seen in any::<bool>(),
    ) {
        let mut filter = Filter::sampling(STAGES[stage]);
        filter.host.code = code;
        let left = filter.run_bytes(&lines, seen);
        for span in &left.spans {
            // What is kept although it is not sampled claims nothing.
            prop_assert!(span.flags & 1 == 1 || span.trace_state.is_empty());
        }
        if !seen {
            return Ok(());
        }
        let (sampled, trace_id, _) = left.traceparent();
        let reported = left.spans.iter().any(|span| span.flags & 1 == 1);
        prop_assert_eq!(sampled, reported, "{:?}", left);
        if sampled {
            assert_in_force(&left, "sampled");
        }

        let state = left.tracestate();
        let members = tracestate::parse([state.as_bytes()].into_iter());
        let members = members.expect("a valid list");
        // `parse` keeps the first of equal keys.
        prop_assert!(state.matches("ot=").count() <= 1, "{}", state);
        if let Some(ot) = members.iter().find(|member| member.key == OtelState::KEY) {
            let ot = OtelState::parse(ot.value);
            let low = trace_id.get(18..).expect("32 digits");
            let low = u64::from_str_radix(low, 16).expect("digits");
            let randomness = ot.randomness.unwrap_or(Randomness::from_low_bits(low));
            if let Some(threshold) = ot.threshold {
                // `always` keeps all, and so does whatever it keeps.
                prop_assert_eq!(threshold.keeps(randomness), sampled, "{}", state);
            }
        }
        let came = lines.iter().filter(|(name, _)| name == "tracestate");
        let came: Vec<_> = came.map(|(_, value)| value.as_slice()).collect();
        let is_continued = lines.iter().filter(|(name, _)| name == "traceparent").count() == 1
            && lines.iter().any(|(name, value)| {
                name == "traceparent" && value.get(3..35) == Some(trace_id.as_bytes())
            });
        if let Some(came) = tracestate::parse(came.into_iter()).filter(|_| is_continued) {
            prop_assert_eq!(others(&members), others(&came));
        } else {
            prop_assert!(others(&members).is_empty(), "{}", state);
        }
    }

    /// Without `report` it is the single filter.
    #[test]
    fn before_a_tracer_it_is_route_sampling(
        stage in 0..STAGES.len(),
        lines in proptest::collection::vec(line(), 0..8),
    ) {
        let key = |_: &str| Some(b"hunter2".to_vec());
        let json = STAGES[stage];
        let single = RouteSampling::from_json(json.as_bytes(), &Proxy::with_environment(&key)).expect(json);
        let all = format!(r#"{{"sampling": {json}}}"#);
        let all = MeshTracing::from_json(all.as_bytes(), &Proxy::with_environment(&key)).expect(json);
        prop_assert_eq!(single.needs(), all.needs());
        prop_assert_eq!(single.counters(), all.counters());
        let [host, other_host] = [(); 2].map(|()| Filter::sampling("{}").host);
        let block = encode(&lines);
        let arena = Arena::with_capacity(ARENA_BYTES);
        let request = Request {
            headers: Headers::parse(&block).expect("a block"),
            peer: Peer::default(),
            cluster: None,
            properties: &[],
            clock: &host,
            arena: &arena,
            shared: &host,
        };
        let [ids, same] = [(); 2].map(|()| IdGenerator::from_seed([3; 32]));
        let (mut one, mut other) = (Outcome::new_in(&arena), Outcome::new_in(&arena));
        single.on_request(&request, &ids, &mut (), &mut one);
        let request = Request {
            clock: &other_host,
            shared: &other_host,
            ..request
        };
        all.on_request(&request, &same, &mut Default::default(), &mut other);
        prop_assert_eq!(format!("{one:?}"), format!("{other:?}"));
    }
}
