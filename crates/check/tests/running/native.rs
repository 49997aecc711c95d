//! The native tracer of a running Envoy, and counters with other names.

use super::*;

/// Istio's bootstrap lets `wasm` pass, and not the counters of dynamic modules.
#[test]
fn a_native_tracer_whose_counters_are_hidden_is_told() {
    let mut dump = dump("trace_context", CONTEXT);
    let manager = dump
        .pointer_mut(
            "/configs/1/static_listeners/0/listener/filter_chains/0/filters/0/typed_config",
        )
        .expect("the manager");
    manager["tracing"] = json!({"provider": {"name": "meshtrace", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.tracers.dynamic_modules.v3.DynamicModuleTracer",
        "dynamic_module_config": {"name": "meshtrace", "do_not_close": true},
        "tracer_name": "mesh_tracing",
        "tracer_config": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": r#"{"report": {"cluster": "collector"}}"#,
        },
    }}});
    manager["http_filters"] = json!([]);
    let of_wasm = stats(&[&["wasm.wasm_vm_count"]], &[]);
    let diagnosis = examine(&dump, of_wasm.clone(), of_wasm);
    let findings = diagnosis.report.findings.iter();
    let hidden = findings
        .filter(|finding| finding.code.to_string() == "MT113")
        .map(|finding| finding.message.as_str());
    let messages: Vec<_> = hidden.collect();
    assert_eq!(messages.len(), 1, "{:?}", codes(&diagnosis));
    assert!(
        messages[0].contains("statsInclusionPrefixes: dynamicmodulescustom"),
        "{messages:?}"
    );
    let states: Vec<_> = diagnosis
        .filters
        .iter()
        .map(|filter| filter.state)
        .collect();
    assert_eq!(states, [State::Unknown]);
}

/// Envoy 1.36 and 1.37 put a cluster's name in front of the counters of the filters of a cluster.
#[test]
fn counters_behind_the_name_of_a_cluster_are_seen() {
    let names: Vec<_> = [LOADED, PROPAGATION]
        .concat()
        .iter()
        .map(|name| match name.starts_with("wasmcustom.") {
            true => format!("cluster.a.b.{name}"),
            false => format!("server.{name}"),
        })
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let stats = stats(&[&names], &[]);
    let diagnosis = examine(&dump("trace_context", CONTEXT), stats.clone(), stats);
    assert!(!codes(&diagnosis).contains(&"MT113"), "{diagnosis:#?}");
    let filter = diagnosis.filters.first().expect("a filter");
    assert_eq!(filter.state, State::InForce);
}
