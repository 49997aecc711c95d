//! examples/native.

use envoy_test_harness::{OtlpSink, SpanKind};
use meshtrace_test_support::common;
use meshtrace_test_support::example::set_cluster;
use meshtrace_test_support::native::{envoys, options};

use crate::page::Example;

#[test]
fn the_native_tracer_reports_the_spans_that_its_page_shows() {
    for envoy in envoys() {
        let collector = OtlpSink::start().expect("a collector");
        let mut bootstrap = common::yaml("examples/native/envoy.yaml");
        set_cluster(&mut bootstrap, "collector", collector.http_addr());
        let example = Example::start_with("native", &envoy, &bootstrap, options());
        example.follow_page();
        let spans = collector.wait_for_spans(6).expect("the spans");
        assert_eq!(spans.len(), 6, "{spans:#?}");
        let of_kind = |kind| spans.iter().filter(move |span| span.kind == kind);
        assert_eq!(of_kind(SpanKind::Server).count(), 3);
        for client in of_kind(SpanKind::Client) {
            let mut servers = of_kind(SpanKind::Server);
            assert!(servers.any(|server| client.is_child_of(server)));
        }
        let order = of_kind(SpanKind::Server).find(|span| span.parent_span_id.is_none());
        let order = order.expect("the rule's");
        assert_eq!(order.name, "GET /orders/{id}");
        assert_eq!(order.attribute("release"), Some("r9"));
        assert_eq!(order.service, "shop");
    }
}
