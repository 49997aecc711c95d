//! Which spans a proxy with a configuration of `mesh_tracing` reports.

use envoy_test_harness::{Span, SpanKind, expect};
use meshtrace_test_support::common::{SPAN, TRACE, get};
use meshtrace_test_support::reporting::{Collected, traceparent};

/// Sends requests until one is sampled, and returns the trace id, span id and flags that the
/// upstream was sent. A gateway that starts traces of its own samples one of a hundred.
pub(crate) fn sampled_request(mesh: &Collected, at: &str) -> [String; 3] {
    let mut connection = mesh.connect();
    let request = get(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))]);
    for _ in 0..5000 {
        let response = connection.send(&request).expect("a response");
        assert_eq!(response.status, 200, "{at}");
        let sent = traceparent(&mesh.upstream.take().remove(0));
        if sent[2] == "01" {
            return sent;
        }
    }
    panic!("{at}: none of 5000 was sampled");
}

/// Waits for the spans of the trace, which have these kinds: the first is the caller's child, or a
/// root where the configuration `restarts` traces; each of the others is a child of the one before.
pub(crate) fn spans_of(
    mesh: &Collected,
    trace_id: &str,
    kinds: &[SpanKind],
    restarts: bool,
    at: &str,
) -> Vec<Span> {
    assert_eq!(trace_id == TRACE, !restarts, "{at}");
    let spans = mesh.sink.wait_for_trace(trace_id, kinds.len());
    let spans = spans.unwrap_or_else(|error| panic!("{at}: {error}"));
    assert_eq!(spans.len(), kinds.len(), "{at}: {spans:#?}");
    let mut chain: Vec<Span> = Vec::new();
    for kind in kinds {
        let one = expect::span().of_kind(*kind).at(at);
        let expected = match chain.last() {
            None if restarts => one.root(),
            None => one.child_of_ids(TRACE, SPAN),
            Some(before) => one.child_of(before),
        };
        chain.push(expected.find_in(&spans).clone());
    }
    chain
}
