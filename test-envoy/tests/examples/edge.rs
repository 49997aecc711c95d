//! `examples/edge`: the configuration and the commands of its page.

use envoy_test_harness::upstream::ClosedPort;
use envoy_test_harness::{OtlpSink, each_supported};
use meshtrace_test_support::common::{self, envoys};
use meshtrace_test_support::example::MANAGER;
use meshtrace_test_support::rendered;
use serde_json::json;

use crate::page::{Example, set_collector};

const EDGE: &str = "examples/edge/envoy.yaml";

#[test]
fn edge_has_what_is_rendered() {
    let rendered = rendered::early_mutation_of(EDGE);
    let bootstrap = common::yaml(EDGE);
    let manager = bootstrap.pointer(MANAGER).expect("the manager");
    assert_eq!(
        manager["early_header_mutation_extensions"],
        json!([rendered.extension])
    );
    rendered::assert_has(manager, &rendered.manager.to_json());
}

#[test]
fn edge_does_what_its_page_shows_without_a_collector() {
    let closed = ClosedPort::reserve().expect("a port");
    let mut bootstrap = common::yaml(EDGE);
    set_collector(&mut bootstrap, closed.address());
    each_supported(|envoy| {
        Example::start("edge", envoy, &bootstrap).follow_page();
    });
}

#[test]
fn edge_reports_a_root_and_tells_the_client_its_request_id() {
    let traceparent = format!("traceparent: 00-{}-{}-00", common::TRACE, common::SPAN);
    let words = ["curl", "localhost:10000", "-H", &traceparent].map(str::to_owned);
    // The tracer reports every 5 s: all are asked before the first one is waited for.
    let asked: Vec<_> = envoys()
        .iter()
        .map(|envoy| {
            let collector = OtlpSink::start().expect("a collector");
            let mut bootstrap = common::yaml(EDGE);
            set_collector(&mut bootstrap, collector.grpc_addr());
            let example = Example::start("edge", envoy, &bootstrap);
            let answer = example.curl(&words);
            (example, collector, answer)
        })
        .collect();
    for (_running, collector, answer) in &asked {
        let spans = collector
            .wait_for_spans(1)
            .expect("the span of the request");
        let span = &spans[0];
        assert_eq!(span.parent_span_id, None);
        assert_ne!(span.trace_id, common::TRACE);
        let told = answer.text();
        let traceparent = format!("traceparent: 00-{}-{}-01", span.trace_id, span.span_id);
        assert!(told.lines().any(|line| line == traceparent), "{told}");
        let id = answer.header_text("x-request-id").expect("an id");
        assert!(
            told.lines()
                .any(|line| line == format!("x-request-id: {id}")),
            "{told}"
        );
    }
}
