//! What `mesh_tracing` makes of `tracestate`: in the request, and in its span.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

use meshtrace_headers::{Change, Headers, encode};
use meshtrace_pipeline::{Arena, Composition, MeshTracing, NoHost, Outcome, Proxy, Request};
use meshtrace_propagation::{IdGenerator, Peer};

/// The `tracestate` lines that leave.
fn left(config: &str, lines: &[(&str, &str)]) -> Vec<String> {
    let filter =
        MeshTracing::from_json(config.as_bytes(), &Proxy::UNKNOWN).expect("a configuration");
    let block = encode(lines);
    let arena = Arena::with_capacity(1024);
    let request = Request {
        headers: Headers::parse(&block).expect("a block"),
        peer: Peer::default(),
        properties: &[],
        cluster: None,
        shared: &NoHost,
        clock: &NoHost,
        arena: &arena,
    };
    let mut outcome = Outcome::new_in(&arena);
    let ids = IdGenerator::from_seed([1; 32]);
    filter.on_request(&request, &ids, &mut Default::default(), &mut outcome);
    let mut left: Vec<_> = lines
        .iter()
        .filter(|(name, _)| *name == "tracestate")
        .map(|(_, value)| (*value).to_owned())
        .collect();
    for edit in outcome.headers.iter() {
        if edit.name == b"tracestate" {
            left = match &edit.change {
                Change::Remove => Vec::new(),
                Change::Replace(value) | Change::Append(value) => {
                    vec![String::from_utf8_lossy(value.as_bytes()).into_owned()]
                }
            };
        }
    }
    left
}

const PARENT: (&str, &str) = (
    "traceparent",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
);
const REPORT: &str = r#"{"report": {"cluster": "c", "role": "server"}}"#;

#[test]
fn several_lines_leave_as_one() {
    for (lines, expected) in [
        (&["a=1"][..], &["a=1"][..]),
        (&["a=1 \t,\tb=2"], &["a=1 \t,\tb=2"]),
        (&[""], &[""]),
        (&["a=1", "b=2"], &["a=1,b=2"]),
        (&["a=1, b= 2", "", "\tc=3 "], &["a=1,b= 2,c=3"]),
        (&["a=1", "b=2", "a=3"], &["a=1,b=2"]),
        (&["", ""], &[]),
        (&["a=1", "B=2"], &[]),
    ] {
        let mut request = vec![PARENT];
        request.extend(lines.iter().map(|line| ("tracestate", *line)));
        assert_eq!(left(REPORT, &request), expected, "{lines:?}");
    }
}

#[test]
fn they_stay_as_they_came_where_w3c_is_not_written() {
    let lines = [PARENT, ("tracestate", "a=1"), ("tracestate", "b=2")];
    let config = |context: &str| {
        format!(r#"{{"trace_context": {context}, "report": {{"cluster": "c", "role": "server"}}}}"#)
    };
    let foreign = config(r#"{"extract": ["b3"], "inject": ["b3"]}"#);
    assert_eq!(left(&foreign, &lines), ["a=1", "b=2"]);
    let cleared = config(r#"{"clear": ["tracestate"]}"#);
    assert!(left(&cleared, &lines).is_empty());
    // Without a span of its own the filter is a pass-through.
    assert_eq!(left(r#"{"trace_context": {}}"#, &lines), ["a=1", "b=2"]);
}
