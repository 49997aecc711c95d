//! A bad configuration of `mesh_tracing.wasm`: inert at first load, the last good one as an
//! update, and said in one line. The rest of it is the host crate's, as for `trace_context.wasm`.

use envoy_test_harness::config::{Bootstrap, Listener};
use envoy_test_harness::each_supported;
use meshtrace_test_support::common::{SPAN, TRACE, get, newest, trace_headers};
use meshtrace_test_support::refusal::Filter;
use meshtrace_test_support::reporting::{Collected, manager, mesh_tracing};

const FILTER: Filter = Filter {
    name: "mesh_tracing",
    good: r#"{"report": {"cluster": "collector"}}"#,
    bad: r#"{"report": {"cluster": "collector", "protocol": "http/json"}}"#,
    bad_line: "mesh_tracing.report.protocol: unknown variant `http/json`, expected \
               `http/protobuf` or `grpc`",
    bad_update: r#"{"report": {"cluster": "collector", "batch": {"max_spans": 0}}}"#,
    bad_update_line: "mesh_tracing.report.batch.max_spans: invalid value: 0, expected 1 to 8192",
};

fn ingress(config: &str) -> Listener {
    Listener::http("ingress", manager(mesh_tracing(config)))
}

/// Whether a sampled request gets a span of this hop's own.
fn reports(mesh: &Collected) -> bool {
    mesh.upstream.take();
    let caller = format!("00-{TRACE}-{SPAN}-01");
    let response = mesh.send(&get(&[("traceparent", &caller)]));
    assert_eq!(response.status, 200);
    let left = mesh.upstream.take().remove(0);
    left.header_text("traceparent").as_ref() != Some(&caller)
}

#[test]
fn a_bad_first_configuration_is_inert_and_a_bad_update_runs_the_last_good_one() {
    each_supported(|envoy| {
        let bootstrap = Bootstrap::new().watched_listener(ingress(FILTER.bad));
        let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
        FILTER.updates(&mesh.envoy, ingress, || reports(&mesh));
        mesh.sink.wait_for_spans(2).expect("the spans");
    });
}

/// Harmless in every placement: nothing is on.
#[test]
fn without_a_configuration_nothing_changes() {
    each_supported(|envoy| {
        for config in ["", "{}", r#"{"trace_context": null, "report": null}"#] {
            let bootstrap = Bootstrap::new().listener(ingress(config));
            let mesh = Collected::with(envoy, "http/protobuf", bootstrap);
            assert!(!reports(&mesh));
            mesh.send(&get(&[]));
            assert!(trace_headers(&mesh.upstream.take().remove(0)).is_empty());
            assert_eq!(mesh.counter("host_errors"), 0);
        }
    });
}

/// A stage is on where it is configured: context in every format, and no span.
#[test]
fn trace_context_alone_does_what_its_own_filter_does() {
    let envoy = newest();
    let config = r#"{"trace_context": {"inject": ["b3"]}}"#;
    let bootstrap = Bootstrap::new().listener(ingress(config));
    let mesh = Collected::with(&envoy, "http/protobuf", bootstrap);
    assert!(!reports(&mesh));
    let caller = format!("00-{TRACE}-{SPAN}-01");
    mesh.send(&get(&[("traceparent", &caller)]));
    let left = trace_headers(&mesh.upstream.take().remove(0));
    assert_eq!(
        left,
        [
            format!("b3: {TRACE}-{SPAN}-1"),
            format!("traceparent: {caller}")
        ]
    );
}
