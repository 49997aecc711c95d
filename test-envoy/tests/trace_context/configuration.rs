//! A bad configuration of `trace_context`.

use envoy_test_harness::config::WasmFilter;
use meshtrace_test_support::common::{Mesh, SPAN, TRACE, get, manager, module, trace_headers};
use meshtrace_test_support::refusal::Filter;

const FILTER: Filter = Filter {
    name: "trace_context",
    good: r#"{"inject": ["b3"]}"#,
    bad: r#"{"extract": ["tracecontext", "b4"]}"#,
    bad_line: "trace_context.extract[1]: unknown variant `b4`, expected one of \
               `tracecontext`, `b3`, `b3multi`, `jaeger`, `ottrace`, `xray`, `gcp`, \
               `datadog`, `grpc-trace-bin`",
    bad_update: r#"{"on_defer": "maybe"}"#,
    bad_update_line: "trace_context.on_defer: unknown variant `maybe`",
};

/// Whether a context that came in W3C leaves in B3 too.
fn works(mesh: &Mesh) -> bool {
    let traceparent = format!("00-{TRACE}-{SPAN}-01");
    let request = get(&[("traceparent", &traceparent)]);
    let left = trace_headers(&mesh.pass(&mut mesh.connect("ingress"), &request));
    let b3 = format!("b3: {TRACE}-{SPAN}-1");
    let traceparent = format!("traceparent: {traceparent}");
    let works = left.contains(&b3);
    assert!(works || left == [traceparent], "{left:?}");
    works
}

#[test]
fn a_bad_first_configuration_loads_inert_in_a_static_listener() {
    FILTER.in_a_static_listener(works);
}

#[test]
fn over_lds_a_bad_first_configuration_loads_inert_and_a_bad_update_runs_the_last_good_one() {
    FILTER.over_lds(works);
}

#[test]
fn over_ecds_a_bad_first_configuration_loads_inert_and_a_bad_update_runs_the_last_good_one() {
    FILTER.over_ecds(works);
}

#[test]
fn strict_refuses_a_bad_first_configuration() {
    FILTER.where_it_is_strict();
}

#[test]
fn what_is_not_json_is_said_to_be_so() {
    let mesh = Mesh::start(vec![("ingress", manager(FILTER.with("extract: [b3]")))]);
    mesh.envoy
        .wait_for_log("trace_context: not JSON (")
        .expect("the refusal in Envoy's log");
    assert!(!works(&mesh));
}

/// Plugins of one image share a VM in Istio; one's bad configuration is not the other's.
#[test]
fn plugins_that_share_a_vm_keep_their_own_configuration() {
    let plugin = |name, config| {
        WasmFilter::new(name, module("trace_context"))
            .configuration(config)
            .vm_id("shared")
    };
    let (good, bad) = (plugin("good", FILTER.good), plugin("bad", FILTER.bad));
    let mesh = Mesh::start(vec![("ingress", manager(good)), ("other", manager(bad))]);
    assert!(works(&mesh));
    let request = get(&[("traceparent", "malformed")]);
    let other = mesh.pass(&mut mesh.connect("other"), &request);
    assert_eq!(trace_headers(&other), ["traceparent: malformed"]);
}
