//! `examples/mesh-tracing`: the configuration and the commands of its page.

use envoy_test_harness::{OtlpSink, SpanKind, each_supported};
use meshtrace_test_support::common;
use meshtrace_test_support::example::set_cluster;

use crate::page::Example;

#[test]
fn mesh_tracing_reports_the_spans_that_its_page_shows() {
    each_supported(|envoy| {
        let collector = OtlpSink::start().expect("a collector");
        let mut bootstrap = common::yaml("examples/mesh-tracing/envoy.yaml");
        set_cluster(&mut bootstrap, "collector", collector.http_addr());
        let example = Example::start("mesh-tracing", envoy, &bootstrap);
        example.follow_page();
        let spans = collector.wait_for_spans(3).expect("the spans");
        assert_eq!(spans.len(), 3, "what is sampled: {spans:#?}");
        for span in &spans {
            assert_eq!(
                (span.kind, span.service.as_str()),
                (SpanKind::Server, "shop")
            );
            assert_eq!(span.resource["service.instance.id"], "shop-1");
        }
        let (ordered, callers): (Vec<_>, Vec<_>) =
            spans.iter().partition(|span| span.parent_span_id.is_none());
        for span in callers {
            assert_eq!(span.trace_id, common::TRACE);
            assert_eq!(span.parent_span_id.as_deref(), Some(common::SPAN));
        }
        assert_eq!(ordered.len(), 1, "the rule's");
        assert_eq!(ordered[0].name, "GET /orders/{id}");
        assert_eq!(ordered[0].trace_state, "ot=th:0");
    });
}
