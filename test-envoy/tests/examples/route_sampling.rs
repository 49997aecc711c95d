//! `examples/route-sampling`: the configuration and the commands of its page.

use envoy_test_harness::each_supported;
use envoy_test_harness::upstream::ClosedPort;
use meshtrace_test_support::common;
use meshtrace_test_support::example::MANAGER;
use meshtrace_test_support::rendered;
use serde_json::Value;

use crate::page::{Example, set_collector};

const ROUTE_SAMPLING: &str = "examples/route-sampling/envoy.yaml";

#[test]
fn route_sampling_has_what_is_rendered() {
    let bootstrap = common::yaml(ROUTE_SAMPLING);
    let manager = bootstrap.pointer(MANAGER).expect("the manager");
    let filter = &manager["http_filters"][1];
    assert_eq!(filter["name"], "route_sampling");
    let text = &filter["typed_config"]["config"]["configuration"]["value"];
    let settings = rendered::sampling_settings_in(ROUTE_SAMPLING, text.as_str().expect("text"));
    if std::env::var_os("UPDATE_EXAMPLES").is_some() {
        return;
    }
    let extension = "request_id_extension";
    assert_eq!(manager[extension], settings.manager[extension]);
    for key in ["client_sampling", "random_sampling", "overall_sampling"] {
        let value = |manager: &Value| manager["tracing"][key]["value"].as_f64();
        assert_eq!(value(manager), value(&settings.manager), "{key}");
    }
    let host = &manager["route_config"]["virtual_hosts"][0];
    let removed = "request_headers_to_remove";
    assert_eq!(host[removed], settings.virtual_host[removed]);
}

#[test]
fn route_sampling_does_what_its_page_shows_without_a_collector() {
    let closed = ClosedPort::reserve().expect("a port");
    let mut bootstrap = common::yaml(ROUTE_SAMPLING);
    set_collector(&mut bootstrap, closed.address());
    each_supported(|envoy| {
        Example::start("route-sampling", envoy, &bootstrap).follow_page();
    });
}
