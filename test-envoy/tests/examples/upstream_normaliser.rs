//! `examples/upstream-normaliser`: the configuration and the commands of its page.

use envoy_test_harness::upstream::ClosedPort;
use envoy_test_harness::{OtlpSink, SpanKind, each_supported};
use meshtrace_test_support::common::{self, envoys};

use crate::page::{Example, set_collector};

#[test]
fn upstream_normaliser_does_what_its_page_shows_without_a_collector() {
    let closed = ClosedPort::reserve().expect("a port");
    let mut bootstrap = common::yaml("examples/upstream-normaliser/envoy.yaml");
    set_collector(&mut bootstrap, closed.address());
    each_supported(|envoy| {
        Example::start("upstream-normaliser", envoy, &bootstrap).follow_page();
    });
}

#[test]
fn upstream_normaliser_names_the_span_that_is_reported() {
    let traceparent = format!("traceparent: 00-{}-{}-01", common::TRACE, common::SPAN);
    let words = ["curl", "localhost:10000", "-H", &traceparent].map(str::to_owned);
    // The tracer reports every 5 s: all are asked before the first one is waited for.
    let asked: Vec<_> = envoys()
        .iter()
        .map(|envoy| {
            let collector = OtlpSink::start().expect("a collector");
            let mut bootstrap = common::yaml("examples/upstream-normaliser/envoy.yaml");
            set_collector(&mut bootstrap, collector.grpc_addr());
            let example = Example::start("upstream-normaliser", envoy, &bootstrap);
            let answer = example.curl(&words).text();
            (example, collector, answer)
        })
        .collect();
    for (_running, collector, answer) in &asked {
        let spans = collector
            .wait_for_trace(common::TRACE, 1)
            .expect("the span of the request");
        let span = &spans[0];
        assert_eq!(span.kind, SpanKind::Server);
        assert_eq!(span.parent_span_id.as_deref(), Some(common::SPAN));
        let b3 = format!(
            "x-b3-traceid: {}\nx-b3-spanid: {}\nx-b3-sampled: 1\n",
            common::TRACE,
            span.span_id
        );
        assert!(answer.ends_with(&b3), "{answer}");
    }
}
