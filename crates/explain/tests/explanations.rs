//! What is told of a request, for each filter.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

use meshtrace_explain::{
    Case, Explanation, Rule, SentRequest, explain, explain_mesh_tracing, text,
};
use meshtrace_pipeline::{AccessLogTrace, RouteSampling, SpanAttributes, TraceContext};
use meshtrace_propagation::Direction;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn request(path: &str, headers: &[(&str, &str)]) -> SentRequest {
    let mut sent = SentRequest::new("GET", path, "shop.example");
    for (name, value) in headers {
        sent.add(name, value);
    }
    sent
}

fn traceparent() -> String {
    format!("00-{TRACE}-{SPAN}-01")
}

fn left<'e>(explanation: &'e Explanation, name: &str) -> Vec<&'e str> {
    let lines = explanation.left.iter();
    let lines = lines.filter(|(candidate, _)| candidate == name);
    lines.map(|(_, value)| value.as_str()).collect()
}

fn state<'e>(explanation: &'e Explanation, key: &str) -> Option<&'e str> {
    let mut states = explanation.filter_state.iter();
    let state = states.find(|state| state.key == key)?;
    Some(&state.value)
}

fn counted(explanation: &Explanation) -> Vec<&str> {
    let counters = explanation.counters.iter();
    counters.map(|counter| counter.name.as_str()).collect()
}

#[test]
fn trace_context_tells_what_was_read_and_what_leaves() {
    let b3 = format!("{TRACE}-{SPAN}-1");
    let sent = request("/", &[("Traceparent", "00-xyz"), ("b3", &b3)]);
    let found = explain::<TraceContext>(b"", &sent).unwrap();
    let read = found
        .read
        .iter()
        .map(|read| (read.format, read.chosen, read.malformed));
    assert_eq!(
        read.collect::<Vec<_>>(),
        [("tracecontext", false, true), ("b3", true, false)]
    );
    assert_eq!(left(&found, "traceparent"), [traceparent()]);
    assert_eq!(found.sampled, Some(true));
    assert_eq!(found.generated, [] as [&str; 0], "all ids came in");
    let change = found
        .headers
        .iter()
        .find(|change| change.name == "traceparent")
        .unwrap();
    assert_eq!(
        (&change.before[..], &change.after[..]),
        (&["00-xyz".to_owned()][..], &[traceparent()][..])
    );
    assert!(counted(&found).contains(&"meshtrace.trace_context.malformed.traceparent"));
}

#[test]
fn what_the_filter_makes_up_is_told_and_is_the_same_every_time() {
    let json = br#"{"on_missing": "generate"}"#;
    let one = explain::<TraceContext>(json, &request("/", &[])).unwrap();
    let two = explain::<TraceContext>(json, &request("/", &[])).unwrap();
    assert_eq!(one, two);
    assert_eq!(one.generated.len(), 2, "{one:?}");
    let written = left(&one, "traceparent")[0];
    assert!(
        one.generated.iter().all(|id| written.contains(id)),
        "{written}"
    );
}

#[test]
fn conflicts_peers_and_directions_are_those_of_the_pipeline() {
    let json = br#"{"incoming": {"mode": "restart", "when": {"not_from_cidrs": ["10.0.0.0/8"]}}}"#;
    let mut sent = request("/", &[("traceparent", &traceparent())]);
    sent.peer = Some("10.1.2.3:4567".to_owned());
    let inside = explain::<TraceContext>(json, &sent).unwrap();
    assert_eq!(state(&inside, "wasm.previous_trace_id"), None);
    sent.peer = Some("192.0.2.1".to_owned());
    let outside = explain::<TraceContext>(json, &sent).unwrap();
    assert_eq!(state(&outside, "wasm.previous_trace_id"), Some(TRACE));
    let b3 = format!("{SPAN}-{SPAN}-0");
    let mut sent = request("/", &[("traceparent", &traceparent()), ("b3", &b3)]);
    sent.direction = Direction::Inbound;
    let found = explain::<TraceContext>(b"", &sent).unwrap();
    assert!(counted(&found).contains(&"meshtrace.trace_context.conflicts.trace_id"));
}

#[test]
fn headers_by_filter_state_are_the_same_headers() {
    let json = br#"{"request_headers": "filter_state", "clear": ["sentry-trace"]}"#;
    let sent = request(
        "/",
        &[("traceparent", &traceparent()), ("sentry-trace", "1")],
    );
    let found = explain::<TraceContext>(json, &sent).unwrap();
    assert!(found.headers_by_filter_state);
    assert_eq!(state(&found, "wasm.x-b3-traceid"), Some(TRACE));
    assert_eq!(left(&found, "x-b3-traceid"), [TRACE]);
    assert_eq!(left(&found, "sentry-trace"), [""; 0]);
}

const RULES: &[u8] = br#"{"rules": [
    {"name": "health", "match": {"path": {"exact": "/health"}}, "sample": "never"},
    {"match": {"route": "checkout"}, "sample": "always"}],
    "default": "unchanged"}"#;

#[test]
fn route_sampling_tells_the_rule() {
    let rule = |name: &str, says: &str| {
        Some(Rule {
            name: name.to_owned(),
            says: says.to_owned(),
        })
    };
    let health = explain::<RouteSampling>(RULES, &request("/health", &[])).unwrap();
    assert_eq!(
        (health.rule.clone(), health.sampled),
        (rule("health", "dropped"), Some(false))
    );
    let other = explain::<RouteSampling>(RULES, &request("/", &[])).unwrap();
    assert_eq!(
        (other.rule.clone(), other.sampled),
        (rule("default", "unchanged"), None)
    );
    assert_eq!(other.unknown_properties, ["xds.route_name"]);
    let mut sent = request("/", &[]);
    sent.route = Some("checkout".to_owned());
    let routed = explain::<RouteSampling>(RULES, &sent).unwrap();
    assert_eq!(
        (routed.rule.clone(), routed.sampled),
        (rule("1", "sampled"), Some(true))
    );
    assert_eq!(left(&routed, "x-envoy-force-trace"), ["true"]);
    assert_eq!(routed.unknown_properties, [""; 0]);
    let parent = [("traceparent", &*traceparent())];
    let child = explain::<RouteSampling>(RULES, &request("/health", &parent)).unwrap();
    assert_eq!(
        (child.rule, child.sampled),
        (None, Some(true)),
        "the caller's decision stands"
    );
}

#[test]
fn span_attributes_tells_the_final_values() {
    let json = br#"{"attributes": [
        {"key": "user.id", "from": {"header": "x-user-id"}, "transform": ["lowercase"]},
        {"key": "zone", "from": {"property": ["xds", "node", "locality"]}},
        {"key": "plan", "from": {"env": "PLAN"}}]}"#;
    let mut sent = request("/", &[("x-user-id", "ALICE")]);
    sent.environment
        .insert("PLAN".to_owned(), "gold".to_owned());
    let found = explain::<SpanAttributes>(json, &sent).unwrap();
    let attributes: Vec<_> = found
        .attributes
        .iter()
        .map(|attribute| (attribute.key.as_str(), attribute.value.as_str()))
        .collect();
    assert_eq!(attributes, [("user.id", "alice"), ("plan", "gold")]);
    assert_eq!(state(&found, "wasm.user.id"), Some("alice"));
    assert_eq!(found.unknown_properties, ["xds.node.locality"]);
    sent.properties
        .insert("xds.node.locality".to_owned(), "a".to_owned());
    let found = explain::<SpanAttributes>(json, &sent).unwrap();
    assert_eq!(state(&found, "wasm.zone"), Some("a"));
}

#[test]
fn attributes_are_told_as_they_came_and_as_they_leave() {
    let stage = r#"{"attributes": [
        {"key": "user.id", "from": {"header": "x-user-id"}, "transform": ["lowercase", {"truncate": 3}]},
        {"key": "plan", "from": {"header": "x-plan"}, "transform": [{"allow": ["gold"]}]},
        {"key": "tier", "from": {"header": "x-tier"}, "default": "free"},
        {"key": "mail", "from": {"header": "x-mail"}, "transform": [{"hmac_sha256": {"key_env": "KEY"}}]},
        {"key": "absent", "from": {"header": "x-absent"}}],
        "emit": {"filter_state": false, "request_header_prefix": "x-a-"}}"#;
    let mesh = format!(r#"{{"span_attributes": {stage}, "report": {{"cluster": "c"}}}}"#);
    let mesh = mesh.replace(r#""filter_state": false, "#, "");
    let sent = request(
        "/",
        &[
            ("x-user-id", "ALICE"),
            ("x-plan", "lead"),
            ("x-mail", "a@b.c"),
        ],
    );
    for found in [
        explain::<SpanAttributes>(stage.as_bytes(), &sent).unwrap(),
        explain_mesh_tracing(mesh.as_bytes(), &sent).unwrap(),
    ] {
        let attributes: Vec<_> = found
            .attributes
            .iter()
            .map(|found| (&*found.key, found.raw.as_deref(), &*found.value))
            .collect();
        assert_eq!(
            attributes,
            [("user.id", Some("ALICE"), "ali"), ("tier", None, "free")]
        );
        let left_out: Vec<_> = found
            .left_out
            .iter()
            .map(|found| (&*found.key, &*found.raw))
            .collect();
        assert_eq!(left_out, [("plan", "lead"), ("mail", "a@b.c")]);
        let text = text(&found, &sent, false);
        for line in [
            "  attribute  user.id = ali\n  from       ALICE\n",
            "  attribute  tier = free\n  from       its default",
            "  left out   plan\n  from       lead\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}

/// Every line that leaves is one that came, or is told as written; every line that came leaves, or
/// is told as gone.
#[test]
fn every_header_that_is_written_or_removed_is_told() {
    let ids = "4bf92f3577b34da6a3ce929d0e0e4736";
    let sent = request(
        "/",
        &[
            ("traceparent", &*traceparent()),
            ("tracestate", "a=b"),
            ("b3", &format!("{ids}-00f067aa0ba902b7-0")),
            ("x-b3-traceid", ids),
            ("uber-trace-id", &format!("{ids}:00f067aa0ba902b7:0:1")),
            ("uberctx-a", "1"),
            ("uberctx-b", "2"),
            ("ot-baggage-a", "3"),
            ("baggage", "a=b"),
            ("baggage", "c=d"),
            (
                "x-amzn-trace-id",
                "Root=1-5759e988-bd862e3fe1be46a994272793",
            ),
            ("x-request-id", "7"),
            ("x-debug", "on"),
        ],
    );
    for json in [
        r#"{"incoming": "ignore"}"#,
        r#"{"incoming": "restart", "inject": ["b3"], "clear": ["x-debug", "jaeger"]}"#,
        r#"{"inject": ["xray"], "clear": ["b3multi"], "baggage_from": ["jaeger"]}"#,
        r#"{"on_conflict": "restart", "request_headers": "filter_state", "clear": ["x-debug"]}"#,
    ] {
        let found = explain::<TraceContext>(json.as_bytes(), &sent).expect(json);
        let lines = |all: &[(String, String)], name: &str| -> Vec<String> {
            let lines = all.iter().filter(|(candidate, _)| candidate == name);
            lines.map(|(_, value)| value.clone()).collect()
        };
        let names: std::collections::BTreeSet<_> = sent
            .headers
            .iter()
            .chain(&found.left)
            .map(|(name, _)| name)
            .collect();
        let mut changed = 0;
        for name in names {
            let (before, after) = (lines(&sent.headers, name), lines(&found.left, name));
            let told = found.headers.iter().find(|change| change.name == *name);
            match told {
                Some(change) => {
                    assert_eq!((&change.before, &change.after), (&before, &after), "{json}");
                    changed += 1;
                }
                None => assert_eq!(before, after, "{json}: {name}"),
            }
        }
        assert_eq!(changed, found.headers.len(), "{json}");
        assert!(changed > 2, "{json}: {:?}", found.headers);
    }
}

#[test]
fn access_log_trace_tells_the_ids_at_the_end() {
    let parent = [("traceparent", &*traceparent())];
    let found = explain::<AccessLogTrace>(b"{}", &request("/", &parent)).unwrap();
    assert_eq!(state(&found, "wasm.trace_id"), Some(TRACE));
    assert!(found.ends_without_tracer);
}

#[test]
fn mesh_tracing_tells_the_span_that_it_injects() {
    let json = br#"{"report": {"cluster": "c"}, "access_log": {},
        "sampling": {"rules": [{"name": "users", "match": {"path": {"template": "/users/{id}"}},
            "sample": "always"}], "default": {"ratio": 0.5}},
        "span_attributes": {"emit": {"filter_state": false, "request_header_prefix": "x-span-attr-"},
            "attributes": [{"key": "q", "from": {"query": "q"}}]}}"#;
    for headers in [&[][..], &[("traceparent", &*traceparent())]] {
        let found = explain_mesh_tracing(json, &request("/users/7?q=1", headers)).unwrap();
        let span = found.span.clone().unwrap();
        assert_eq!(span.name, "GET /users/{id}");
        assert!(span.sampled && !span.never);
        let written = format!("00-{}-{}-01", span.trace_id, span.span_id);
        assert_eq!(left(&found, "traceparent"), [written]);
        assert_eq!(state(&found, "wasm.span_id"), Some(&*span.span_id));
        assert_eq!(state(&found, "wasm.q"), None);
        assert_eq!(found.attributes[0].value, "1", "of the span");
        assert_eq!(left(&found, "x-span-attr-q"), ["1"]);
        let came_in = !headers.is_empty();
        assert_eq!(span.parent_span_id.as_deref(), came_in.then_some(SPAN));
        assert_eq!(span.trace_id == TRACE, came_in);
        assert_eq!(found.generated.contains(&span.trace_id), !came_in);
        assert!(found.generated.contains(&span.span_id));
        assert_eq!(found.rule.is_some(), !came_in);
    }
    let beside = explain_mesh_tracing(b"{}", &request("/", &[])).unwrap();
    assert_eq!(beside.span, None);
    let page = text(&beside, &request("/", &[]), false);
    assert!(page.contains("changes nothing"), "{page}");
}

#[test]
fn a_refused_configuration_is_told_with_its_path() {
    let error = explain::<TraceContext>(br#"{"inject": ["w3c"]}"#, &request("/", &[]));
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("trace_context.inject"), "{error}");
}

#[test]
fn lines_are_at_most_100_columns_and_colour_is_only_asked_for() {
    let long = "x".repeat(250);
    let json = br#"{"attributes": [{"key": "user.id", "from": {"header": "x-user-id"}}]}"#;
    let sent = request(&format!("/{long}"), &[("x-user-id", &long)]);
    let found = explain::<SpanAttributes>(json, &sent).unwrap();
    let plain = text(&found, &sent, false);
    assert!(
        plain.lines().all(|line| line.chars().count() <= 100),
        "{plain}"
    );
    assert!(!plain.contains('\u{1b}'));
    assert!(text(&found, &sent, true).contains('\u{1b}'));
}

#[test]
fn a_case_tells_every_difference() {
    let case: Case = serde_json::from_str(
        r#"{"name": "a", "request": {"headers": {"b3": "0", "x": ["1", "2"]}, "peer": "192.0.2.1"},
            "expect": {"headers": {"b3": null, "X": "1, 2", "traceparent": "00"},
                "filter_state": {"wasm.trace_id": "0"}, "sampled": true, "rule": null}}"#,
    )
    .unwrap();
    let sent = case.request(&Default::default());
    let found = explain::<TraceContext>(b"", &sent).unwrap();
    let differences = case.expect.differences(&found);
    let keys: Vec<_> = differences
        .iter()
        .map(|difference| difference.key.as_str())
        .collect();
    assert_eq!(
        keys,
        [
            "headers.b3",
            "headers.traceparent",
            "filter_state.trace_id",
            "sampled"
        ]
    );
    assert_eq!(differences[0].found.as_deref(), Some("0"));
    assert_eq!(differences[3].found.as_deref(), Some("false"));
}
