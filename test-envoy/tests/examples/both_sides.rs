//! `examples/both-sides`: the configuration and the commands of its page.

use envoy_test_harness::upstream::ClosedPort;
use envoy_test_harness::{OtlpSink, SpanKind, Upstream, each_supported};
use meshtrace_test_support::common::{self, envoys};
use meshtrace_test_support::example::{MANAGER, set_cluster};
use meshtrace_test_support::rendered;
use serde_json::json;

use crate::page::{Example, set_collector};

const BOTH_SIDES: &str = "examples/both-sides/envoy.yaml";

#[test]
fn both_sides_has_what_is_rendered() {
    let rendered = rendered::early_mutation_of(BOTH_SIDES);
    let bootstrap = common::yaml(BOTH_SIDES);
    let manager = bootstrap.pointer(MANAGER).expect("the manager");
    assert_eq!(
        manager["early_header_mutation_extensions"],
        json!([rendered.extension])
    );
    let host = &manager["route_config"]["virtual_hosts"][0];
    rendered::assert_has(host, &rendered.virtual_host);
}

#[test]
fn both_sides_does_what_its_page_shows_without_a_collector() {
    let closed = ClosedPort::reserve().expect("a port");
    let mut bootstrap = common::yaml(BOTH_SIDES);
    set_collector(&mut bootstrap, closed.address());
    each_supported(|envoy| {
        Example::start("both-sides", envoy, &bootstrap).follow_page();
    });
}

#[test]
fn both_sides_reports_a_child_of_the_callers_b3_span_and_tells_the_application() {
    let single = format!("b3: {}-{}-1", common::TRACE, common::SPAN);
    let words = ["curl", "localhost:10000", "-H", &single].map(str::to_owned);
    // The tracer reports every 5 s: all are asked before the first one is waited for.
    let asked: Vec<_> = envoys()
        .iter()
        .map(|envoy| {
            let collector = OtlpSink::start().expect("a collector");
            let mut bootstrap = common::yaml(BOTH_SIDES);
            set_collector(&mut bootstrap, collector.grpc_addr());
            let example = Example::start("both-sides", envoy, &bootstrap);
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
        let ids = format!("{}-{}", common::TRACE, span.span_id);
        for line in [
            format!("traceparent: 00-{ids}-01"),
            format!("b3: {ids}-1"),
            format!("x-b3-traceid: {}", common::TRACE),
            format!("x-b3-spanid: {}", span.span_id),
        ] {
            assert!(answer.lines().any(|told| told == line), "{line}: {answer}");
        }
    }
}

#[test]
fn both_sides_keeps_its_own_headers_from_the_application() {
    let closed = ClosedPort::reserve().expect("a port");
    let application = Upstream::start().expect("an application");
    let mut bootstrap = common::yaml(BOTH_SIDES);
    set_collector(&mut bootstrap, closed.address());
    set_cluster(&mut bootstrap, "application", application.address());
    let full = format!("b3: {}-{}-1", common::TRACE, common::SPAN);
    each_supported(|envoy| {
        let example = Example::start("both-sides", envoy, &bootstrap);
        for header in ["b3: 1", "b3: 0", &full] {
            let words = ["curl", "localhost:10000", "-H", header];
            assert_eq!(example.curl(&words.map(str::to_owned)).status, 200);
            let told = application.take().remove(0);
            for (name, _) in &told.headers {
                let name = String::from_utf8_lossy(name).to_lowercase();
                let own = name.starts_with("x-meshtrace-") || name == "x-client-trace-id";
                assert!(!own, "{name} on Envoy {}: {header}", example.version);
            }
        }
    });
}
