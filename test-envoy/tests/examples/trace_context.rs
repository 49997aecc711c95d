//! `examples/trace-context`: the configuration and the commands of its page.

use envoy_test_harness::each_supported;
use meshtrace_config::read;
use meshtrace_propagation::{Propagation, TraceContextConfig};
use meshtrace_test_support::common;

use crate::page::Example;

#[test]
fn trace_context_does_what_its_page_shows() {
    let bootstrap = common::yaml("examples/trace-context/envoy.yaml");
    each_supported(|envoy| {
        Example::start("trace-context", envoy, &bootstrap).follow_page();
    });
}

#[test]
fn trace_context_spells_the_defaults_out() {
    let bootstrap = common::yaml("examples/trace-context/envoy.yaml");
    let filter =
        "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0";
    let filter = bootstrap.pointer(filter).expect("the filter");
    let text = filter["typed_config"]["config"]["configuration"]["value"].as_str();
    let compile = |json: &str| {
        let config: TraceContextConfig = read(json.as_bytes()).expect("a configuration");
        format!(
            "{:?}",
            Propagation::new(&config).expect("one that compiles")
        )
    };
    assert_eq!(compile(text.expect("its text")), compile("{}"));
}
