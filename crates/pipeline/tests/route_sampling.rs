//! `route_sampling` as a composition: what comes in, what should change.
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
    Arena, Change as SharedChange, Clock, Composition, NoHost, Outcome, Proxy, Request,
    RouteSampling, SharedData,
};
use meshtrace_propagation::{IdGenerator, Peer};
use meshtrace_sampling::Counter;

const T: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const S: &str = "00f067aa0ba902b7";

/// What a request left behind.
#[derive(Debug, Default, PartialEq)]
struct Left {
    edits: Vec<String>,
    decision: Option<String>,
    counted: Vec<Counter>,
    configured: Vec<String>,
}

fn filter(config: &str) -> RouteSampling {
    let key = |name: &str| (name == "KEY").then(|| b"hunter2".to_vec());
    let proxy = Proxy::with_environment(&key);
    RouteSampling::from_json(config.as_bytes(), &proxy)
        .unwrap_or_else(|error| panic!("{config}: {error}"))
}

#[test]
fn only_a_filter_that_nothing_decides_for_is_said_to_do_nothing() {
    let idle = filter("{}").cautions();
    assert!(idle[0].contains("the stage does nothing"), "{idle:?}");
    // It passes on what the filter in front of the tracer decided.
    let behind = filter(r#"{"placement": "upstream", "tracer": "tracecontext"}"#).cautions();
    assert_eq!(behind, [""; 0]);
    // What a rule cannot do is said there too.
    let force =
        r#"{"placement": "upstream", "tracer": "b3", "force": {"header": "x", "value_env": "NO"}}"#;
    assert!(filter(force).cautions()[0].contains("`force` keeps no request"));
}

fn run(filter: &RouteSampling, lines: &[(&str, &str)], properties: &[Option<&str>]) -> Left {
    run_with(filter, lines, properties, &NoHost)
}

fn run_with(
    filter: &RouteSampling,
    lines: &[(&str, &str)],
    properties: &[Option<&str>],
    shared: &(impl Clock + SharedData),
) -> Left {
    let block = encode(lines);
    let properties: Vec<Option<Box<[u8]>>> = properties
        .iter()
        .map(|value| value.map(|value| value.as_bytes().into()))
        .collect();
    let arena = Arena::with_capacity(1024);
    let mut outcome = Outcome::new_in(&arena);
    let request = Request {
        headers: Headers::parse(&block).expect("a block"),
        peer: Peer::default(),
        cluster: None,
        properties: &properties,
        clock: shared,
        arena: &arena,
        shared,
    };
    filter.on_request(
        &request,
        &IdGenerator::from_seed([9; 32]),
        &mut (),
        &mut outcome,
    );
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let edits = outcome.headers.iter().map(|edit| match &edit.change {
        Change::Remove => format!("-{}", text(edit.name)),
        Change::Replace(value) | Change::Append(value) => {
            format!("{}: {}", text(edit.name), text(value.as_bytes()))
        }
    });
    let names = filter.counters();
    Left {
        edits: edits.collect(),
        decision: outcome
            .properties
            .first()
            .map(|property| text(property.value)),
        counted: outcome.tallies.sampling.iter().collect(),
        configured: outcome
            .configured
            .iter()
            .map(|index| names[*index].replace("meshtrace.route_sampling.", ""))
            .collect(),
    }
}

fn left(edits: &[&str], decision: Option<&str>, counted: &[Counter], configured: &[&str]) -> Left {
    Left {
        edits: edits.iter().map(|edit| (*edit).to_owned()).collect(),
        decision: decision.map(str::to_owned),
        counted: counted.to_vec(),
        configured: configured.iter().map(|name| (*name).to_owned()).collect(),
    }
}

const RULES: &str = r#"{
    "rules": [
        {"name": "keep", "match": {"path": {"prefix": "/keep"}}, "sample": "always"},
        {"name": "drop", "match": {"path": {"prefix": "/drop"}}, "sample": "never"}
    ],
    "force": {"header": "x-force", "value_env": "KEY"},
    "ids": {"trace_id_header": "x-trace-id"},
    "default": "unchanged"
}"#;

#[test]
fn a_request_without_a_parent_is_decided_by_its_rule() {
    let filter = filter(RULES);
    for (lines, expected) in [
        (
            &[(":path", "/keep/it")][..],
            left(
                &["x-envoy-force-trace: true"],
                Some("th:0"),
                &[],
                &["rule.keep.sampled"],
            ),
        ),
        (
            &[(":path", "/drop"), ("x-envoy-force-trace", "true")],
            left(
                &["-x-envoy-force-trace"],
                Some("drop"),
                &[],
                &["rule.drop.dropped"],
            ),
        ),
        (
            &[(":path", "/drop")],
            left(&[], Some("drop"), &[], &["rule.drop.dropped"]),
        ),
        (
            &[(":path", "/other")],
            left(&[], None, &[], &["default.unchanged"]),
        ),
        (
            &[(":path", "/drop"), ("x-force", "hunter2")],
            left(
                &["-x-force", "x-envoy-force-trace: true"],
                Some("force"),
                &[Counter::Forced],
                &[],
            ),
        ),
        (
            &[(":path", "/drop"), ("x-force", "x")],
            left(
                &["-x-force"],
                Some("drop"),
                &[Counter::ForceRefused],
                &["rule.drop.dropped"],
            ),
        ),
        (
            &[(":path", "/other"), ("x-trace-id", T)],
            left(&["-x-trace-id"], None, &[], &["default.unchanged"]),
        ),
    ] {
        assert_eq!(run(&filter, lines, &[]), expected, "{lines:?}");
    }
}

#[test]
fn a_request_with_a_parent_is_left_alone() {
    let filter = filter(RULES);
    let w3c = |flags: &str| format!("00-{T}-{S}-{flags}");
    for (name, value, counter) in [
        ("traceparent", w3c("01"), Counter::ParentSampled),
        ("traceparent", w3c("00"), Counter::ParentDropped),
        ("b3", format!("{T}-{S}"), Counter::ParentDeferred),
        ("b3", "1".to_owned(), Counter::ParentSampled),
        ("b3", "0".to_owned(), Counter::ParentDropped),
    ] {
        let lines = [(":path", "/keep"), (name, value.as_str())];
        assert_eq!(
            run(&filter, &lines, &[]),
            left(&[], None, &[counter], &[]),
            "{name}: {value}"
        );
    }
}

#[test]
fn a_ratio_follows_the_helper_header_and_else_chance() {
    let half = filter(r#"{"default": {"ratio": 0.5}, "ids": {"trace_id_header": "x-trace-id"}}"#);
    let high = "000000000000000000ffffffffffffff";
    let low = "ffffffffffffffffff00000000000000";
    let narrow = "00ffffffffffffff";
    for (id, kept) in [(high, true), (low, false), (narrow, true)] {
        let left = run(&half, &[("x-trace-id", id)], &[]);
        let decision = if kept { "th:8" } else { "drop" };
        assert_eq!(left.decision.as_deref(), Some(decision), "{id}");
    }
    // What chance has kept tells no threshold.
    let nearly_all = filter(r#"{"default": {"ratio": 0.999999}}"#);
    assert_eq!(run(&nearly_all, &[], &[]).decision.as_deref(), Some("keep"));
}

#[test]
fn upstream_the_threshold_is_what_the_downstream_filter_told() {
    let filter = filter(r#"{"placement": "upstream", "tracer": "tracecontext"}"#);
    assert_eq!(&*filter.needs().request_properties[0], b"sampling_decision");
    let sampled = format!("00-{T}-{S}-01");
    let dropped = format!("00-{T}-{S}-00");
    // The right-most 56 bits of the trace id are ce929d0e0e4736.
    for (told, traceparent, edits) in [
        (Some("th:0"), &sampled, &["tracestate: ot=th:0"][..]),
        (Some("th:c"), &sampled, &["tracestate: ot=th:c"]),
        (Some("th:d"), &sampled, &[]),
        (Some("th:c"), &dropped, &[]),
        (Some("keep"), &sampled, &[]),
        (Some("drop"), &dropped, &[]),
        (Some("nonsense"), &sampled, &[]),
        (Some("force"), &sampled, &[]),
        (None, &sampled, &[]),
    ] {
        let lines = [("traceparent", traceparent.as_str()), ("tracestate", "")];
        let left = run(&filter, &lines, &[told]);
        assert_eq!(left.edits, edits, "{told:?}");
    }
}

#[test]
fn upstream_the_list_of_members_stays_a_valid_one() {
    let filter = filter(
        r#"{"placement": "upstream", "tracer": "tracecontext", "parent": "ignore", "default": "always"}"#,
    );
    let traceparent = format!("00-{T}-{S}-01");
    let with = |state: &str| {
        let lines = [("traceparent", traceparent.as_str()), ("tracestate", state)];
        run(&filter, &lines, &[None])
            .edits
            .pop()
            .unwrap_or_default()
    };
    assert_eq!(with("a=1,ot=th:8,b=2"), "tracestate: ot=th:0,a=1,b=2");
    assert_eq!(with("a=1,ot=th:0"), "", "it is right already");
    assert_eq!(with("not valid"), "tracestate: ot=th:0");
    let members: Vec<_> = (0..32).map(|i| format!("m{i}=1")).collect();
    let full = with(&members.join(","));
    assert_eq!(full.split(',').count(), 32);
    assert!(
        full.starts_with("tracestate: ot=th:0,m0=1,") && full.ends_with(",m30=1"),
        "{full}"
    );
}

/// One store and a clock that stands still.
#[derive(Debug, Default)]
struct Store {
    entries: RefCell<BTreeMap<Vec<u8>, [u8; 8]>>,
    /// So many attempts are won by another worker.
    lost: Cell<usize>,
    looks: Cell<usize>,
}

impl Clock for Store {
    fn monotonic(&self) -> Option<u64> {
        Some(1_700_000_000_000_000_000)
    }

    fn wall(&self) -> Option<u64> {
        self.monotonic()
    }
}

impl SharedData for Store {
    #[expect(clippy::disallowed_methods, reason = "a test may panic")]
    fn update(&self, key: &[u8], change: &mut SharedChange<'_>) -> bool {
        self.looks.set(self.looks.get() + 1);
        let mut entries = self.entries.borrow_mut();
        loop {
            let entry = entries.get(key).map(<[u8; 8]>::as_slice);
            let Some(new) = change(entry) else {
                return true;
            };
            entries.insert(key.to_vec(), new);
            match self.lost.get() {
                0 => return true,
                lost => self.lost.set(lost - 1),
            }
        }
    }
}

#[test]
fn a_rate_takes_tokens_and_asks_no_more_when_none_can_be_there() {
    let filter = filter(r#"{"default": {"per_second": 3}}"#);
    let store = Store::default();
    let kept = (0..10)
        .map(|_| run_with(&filter, &[], &[], &store))
        .filter(|left| left.decision.as_deref() == Some("keep"))
        .count();
    assert_eq!(kept, 3);
    assert_eq!(
        store.looks.get(),
        4,
        "three tokens, and the look that found none"
    );
}

#[test]
fn a_token_that_another_worker_took_is_not_taken_twice() {
    let filter = filter(r#"{"default": {"per_second": 3}}"#);
    let store = Store::default();
    store.lost.set(3);
    let left = run_with(&filter, &[], &[], &store);
    assert_eq!(left.decision.as_deref(), Some("drop"));
}

#[test]
fn without_a_clock_a_rate_keeps_nothing_and_says_so() {
    let filter = filter(r#"{"default": {"per_second": 3}}"#);
    let expected = left(
        &[],
        Some("drop"),
        &[Counter::BucketFailed],
        &["default.dropped"],
    );
    assert_eq!(run(&filter, &[], &[]), expected);
}

#[test]
fn impossible_configurations_are_refused_with_their_path() {
    for (json, expected) in [
        (
            r#"{"placement": "upstream"}"#,
            "route_sampling.tracer: required",
        ),
        (
            r#"{"tracer": "b3"}"#,
            "route_sampling.tracer: only with placement",
        ),
        (
            r#"{"placement": "upstream", "tracer": "b3", "ids": {"trace_id_header": "x"}}"#,
            "route_sampling.ids.trace_id_header: not with placement",
        ),
        (
            r#"{"ids": {"trace_id_header": ":x"}}"#,
            "route_sampling.ids.trace_id_header: invalid",
        ),
        (
            r#"{"default": 7}"#,
            "route_sampling.default: invalid type: integer `7`, expected \"always\"",
        ),
        ("rules: []", "route_sampling: not JSON ("),
    ] {
        let refusal = RouteSampling::from_json(json.as_bytes(), &Proxy::UNKNOWN);
        let refusal = refusal.map(|_| ()).expect_err("a refusal").to_string();
        assert!(refusal.starts_with(expected), "{json}: {refusal}");
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use super::*;
    use proptest::prelude::*;

    fn line() -> impl Strategy<Value = (String, Vec<u8>)> {
        let name = prop_oneof![
            Just(":path"),
            Just(":authority"),
            Just(":method"),
            Just("traceparent"),
            Just("tracestate"),
            Just("b3"),
            Just("x-force"),
            Just("x-trace-id"),
            Just("x-tenant"),
            Just("x-envoy-force-trace"),
        ];
        let value = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            "/(keep|users|drop)?/?[a-z?#/]{0,10}".prop_map(String::into_bytes),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0[0-3]"
                .prop_map(String::into_bytes),
            "[a-z]{0,2}=?(ot=)?(th:[0-9a-f]{0,16};?)?(rv:[0-9a-f]{13,15})?,?"
                .prop_map(String::into_bytes),
            "[a-zA-Z.:\\[\\]*]{0,300}".prop_map(String::into_bytes),
        ];
        (name.prop_map(str::to_owned), value)
    }

    proptest! {
        #[test]
        fn nothing_that_arrives_panics(
            lines in proptest::collection::vec(line(), 0..12),
            told in proptest::option::of("(th:)?[a-f0-9]{0,16}|keep|force|drop"),
        ) {
            let configs = [
                RULES.to_owned(),
                r#"{"rules": [
                    {"match": {"path": {"regex": "/[a-z]+"}, "host": "*.example"}, "sample": {"ratio": 0.3}},
                    {"match": {"path": {"template": "/users/{id}"}, "headers": [{"name": "x-tenant", "prefix": "a"}]}, "sample": {"per_second": 1}}
                ], "default": {"ratio": 0.5}, "ids": {"trace_id_header": "x-trace-id"}}"#.to_owned(),
                r#"{"placement": "upstream", "tracer": "tracecontext", "parent": "ignore", "default": {"ratio": 0.5}}"#.to_owned(),
                r#"{"placement": "upstream", "tracer": "b3", "parent": "respect_dropped", "default": "never"}"#.to_owned(),
            ];
            let block = encode(&lines);
            let properties = [told.map(|told| told.into_bytes().into())];
            for config in configs {
                let filter = filter(&config);
                let store = Store::default();
                let arena = Arena::with_capacity(1024);
                let mut outcome = Outcome::new_in(&arena);
                let request = Request {
                    headers: Headers::parse(&block).expect("a block"),
                    peer: Peer::default(),
        cluster: None,
                    properties: &properties,
                    clock: &store,
                    arena: &arena,
                    shared: &store,
                };
                filter.on_request(&request, &IdGenerator::from_seed([9; 32]), &mut (), &mut outcome);
                for edit in outcome.headers.iter() {
                    if let (b"tracestate", Change::Replace(value)) = (edit.name, &edit.change) {
                        let lines = [value.as_bytes()].into_iter();
                        prop_assert!(meshtrace_propagation::tracestate::parse(lines).is_some());
                    }
                }
            }
        }
    }
}
