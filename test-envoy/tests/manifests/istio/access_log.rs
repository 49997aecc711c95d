//! The manifests of the access log, applied to the example in the place of its own.

use envoy_test_harness::AccessLog;
use envoy_test_harness::each_supported;
use envoy_test_harness::upstream::ClosedPort;
use envoy_test_harness::{Envoy, Options};
use meshtrace_access_log::{AccessLogIds, AccessLogTraceConfig};
use meshtrace_config::read;
use meshtrace_render::{
    EnvoyVersion, IdsFrom, access_log_fields, expose_ids, istio_envoy_filter, istio_provider,
    istio_telemetry,
};
use meshtrace_test_support::applied::{envoy_filter, list};
use meshtrace_test_support::common::{self, SPAN, TRACE, get};
use meshtrace_test_support::example::{MANAGER, set_cluster};
use serde_json::{Value, json};

use super::like_the_examples::apply;

const FILTER: &str = "istio-manifests/access-log/envoyfilter-otel.yaml";
const FILTER_1_28: &str = "istio-manifests/access-log/envoyfilter-otel-1.28.yaml";
const PROVIDER: &str = "json-with-trace";

fn value(manifest: &Value, patch: usize) -> &Value {
    &manifest["spec"]["configPatches"][patch]["patch"]["value"]
}

fn config(manifest: &Value) -> AccessLogTraceConfig {
    let config = &value(manifest, 0)["typed_config"]["config"];
    assert_eq!(config["failure_policy"], "FAIL_OPEN");
    let text = config["configuration"]["value"].as_str().expect("text");
    read(text.as_bytes()).expect("a configuration")
}

#[test]
fn the_manifests_are_what_is_rendered() {
    let [_, ids] = [
        (FILTER_1_28, EnvoyVersion::V1_37),
        (FILTER, EnvoyVersion::V1_38),
    ]
    .map(|(path, envoy)| {
        let manifest = common::yaml(path);
        let config = config(&manifest);
        let step = expose_ids(&config.ids, envoy);
        let name = manifest["metadata"]["name"].as_str().expect("one");
        let filter = value(&manifest, 0);
        assert_eq!(manifest, istio_envoy_filter(name, step.as_ref(), filter));
        AccessLogIds::new(&config).expect("one that compiles")
    });

    let fields = access_log_fields(&ids, IdsFrom::Filter);
    let mesh = common::yaml("istio-manifests/access-log/mesh-config.yaml");
    assert_eq!(
        mesh,
        json!({"extensionProviders": [istio_provider(PROVIDER, &fields)]})
    );
    let telemetry = common::yaml("istio-manifests/access-log/telemetry.yaml");
    assert_eq!(telemetry, istio_telemetry(PROVIDER));
}

#[test]
fn in_the_place_of_the_examples_filters_every_line_names_the_span_that_called() {
    let mesh = common::yaml("istio-manifests/access-log/mesh-config.yaml");
    let labels = &mesh["extensionProviders"][0]["envoyFileAccessLog"]["logFormat"]["labels"];
    let collector = ClosedPort::reserve().expect("a port");
    let mut patched = common::yaml("examples/access-log/envoy.yaml");
    set_cluster(&mut patched, "collector", collector.address());
    let manager = patched.pointer_mut(MANAGER).expect("the manager");
    list(&mut manager["http_filters"]).drain(..2);
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    each_supported(|envoy| {
        let mut patched = patched.clone();
        let path = match envoy.is_at_least(1, 38) {
            true => FILTER,
            false => FILTER_1_28,
        };
        apply(&envoy_filter(path), &mut patched);
        let manager = patched.pointer_mut(MANAGER).expect("the manager");
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("access.log");
        let logger = &mut manager["access_log"][0]["typed_config"];
        logger["path"] = json!(log);
        logger["log_format"]["json_format"] = labels.clone();
        let arrivals = [vec![("traceparent", w3c.as_str())]];
        let options = Options::new().working_directory(common::root());
        let running = Envoy::start_raw(envoy, patched, options).expect("an Envoy");
        let address = running.address("ingress").expect("the listener's address");
        let response = get(&arrivals[0]).send(address).expect("a response");
        let lines = AccessLog::new(&log).wait_for_lines(1).expect("a line");
        let ids = ["trace_id", "span_id", "trace_flags"]
            .map(|key| lines[0][key].as_str().unwrap_or_default());
        assert_eq!(
            response.text(),
            format!("called from 00-{}\n", ids.join("-"))
        );
        assert_eq!(lines[0]["parent_span_id"], SPAN);
    });
}
