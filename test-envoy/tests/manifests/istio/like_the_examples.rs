//! Each manifest of `trace_context`, applied to an example in the place of what the example has.

use envoy_test_harness::client::Response;
use envoy_test_harness::upstream::ClosedPort;
use envoy_test_harness::{Envoy, Options};
use envoy_test_harness::{EnvoyBinary, each_supported};
use meshtrace_propagation::Propagation;
use meshtrace_test_support::applied::{self, envoy_filter, list};
use meshtrace_test_support::common::{self, SPAN, TRACE, get};
use meshtrace_test_support::example::{MANAGER, set_cluster, with_new_ids_named};
use meshtrace_test_support::rendered;
use serde_json::{Value, json};

use super::{OTHER_SPAN, OTHER_TRACE, read_and_compile};

const EARLY: &str = "istio-manifests/envoyfilter/trace-context-otel-early.yaml";
const ZIPKIN_EARLY: &str = "istio-manifests/envoyfilter/trace-context-zipkin-b3-early.yaml";
const EDGE: &str = "istio-manifests/envoyfilter/trace-context-edge.yaml";
const UPSTREAM: &str = "istio-manifests/envoyfilter/trace-context-otel-upstream.yaml";
const DOWNSTREAM: &str = "istio-manifests/envoyfilter/trace-context-no-tracer.yaml";

/// Applies an EnvoyFilter to the first listener as Istio does.
pub(super) fn apply(manifest: &Value, bootstrap: &mut Value) {
    applied::apply(
        manifest,
        bootstrap.pointer_mut(MANAGER).expect("the manager"),
    );
}

/// What `bootstrap` answers to a request with each of `arrivals`; ids that it makes are named.
fn answers(
    envoy: &EnvoyBinary,
    bootstrap: &Value,
    arrivals: &[Vec<(&str, &str)>],
) -> Vec<(u16, String)> {
    let options = Options::new().working_directory(common::root());
    let envoy = Envoy::start_raw(envoy, bootstrap.clone(), options).expect("an Envoy");
    let address = envoy.address("ingress").expect("the listener's address");
    let answer = |headers: &Vec<(&str, &str)>| {
        let response: Response = get(headers).send(address).expect("a response");
        let named = with_new_ids_named(&response.text(), &format!("{headers:?}"));
        (response.status, named)
    };
    arrivals.iter().map(answer).collect()
}

#[test]
fn the_early_mutations_are_what_is_rendered() {
    for path in [EARLY, ZIPKIN_EARLY, EDGE] {
        let rendered = rendered::early_mutation_of(path);
        let mut patched = json!({"route_config": {"virtual_hosts": [{}]}});
        applied::apply(&common::yaml(path), &mut patched);
        assert_eq!(
            patched["early_header_mutation_extensions"],
            json!([rendered.extension])
        );
        let mut settings = rendered.manager.to_json();
        // Istio merges messages as protobuf does: a zero in the patch changes nothing.
        settings["tracing"].take();
        assert_eq!(patched["tracing"], settings["tracing"]);
        rendered::assert_has(&patched, &settings);
        let host = &patched["route_config"]["virtual_hosts"][0];
        assert_eq!(*host, rendered.virtual_host, "{path}");
    }
}

#[test]
fn edge_does_what_the_example_edge_does() {
    let collector = ClosedPort::reserve().expect("a port");
    let mut example = common::yaml("examples/edge/envoy.yaml");
    set_cluster(&mut example, "collector", collector.address());
    let manager = example.pointer_mut(MANAGER).expect("the manager");
    // As Istio sets the tracing of a gateway.
    manager["tracing"]["random_sampling"] = json!({"value": 0});
    let mut without = example.clone();
    let manager = without.pointer_mut(MANAGER).expect("the manager");
    manager["early_header_mutation_extensions"] = json!([]);
    manager["tracing"]["client_sampling"] = json!({"value": 100});
    let mut patched = without.clone();
    apply(&envoy_filter(EDGE), &mut patched);

    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let b3 = format!("{OTHER_TRACE}-{OTHER_SPAN}-1");
    let arrivals = [
        vec![("traceparent", w3c.as_str()), ("tracestate", "a=1")],
        vec![("b3", b3.as_str())],
        vec![("x-client-trace-id", "forced")],
        vec![("x-request-id", "12345678-1234-a234-9234-123456789abc")],
        vec![],
    ];
    each_supported(|envoy| {
        let told = answers(envoy, &patched, &arrivals);
        for (_, answer) in &told {
            assert!(answer.contains("-00\n"), "{answer}");
        }
        assert_eq!(told, answers(envoy, &example, &arrivals));
        assert_ne!(told, answers(envoy, &without, &arrivals));
    });
}

#[test]
fn early_and_upstream_do_what_the_example_both_sides_does() {
    let collector = ClosedPort::reserve().expect("a port");
    let mut example = common::yaml("examples/both-sides/envoy.yaml");
    set_cluster(&mut example, "collector", collector.address());
    let mut without = example.clone();
    let manager = without.pointer_mut(MANAGER).expect("the manager");
    manager["early_header_mutation_extensions"] = json!([]);
    manager["route_config"]["virtual_hosts"][0]["request_headers_to_remove"] = json!([]);
    let router = list(&mut manager["http_filters"]).last_mut();
    router.expect("the router")["typed_config"]["upstream_http_filters"] = json!([]);
    let mut patched = without.clone();
    for path in [EARLY, UPSTREAM] {
        apply(&envoy_filter(path), &mut patched);
    }

    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let b3 = format!("{OTHER_TRACE}-{OTHER_SPAN}-1");
    let arrivals = [
        vec![("b3", b3.as_str())],
        vec![("x-b3-traceid", OTHER_TRACE), ("x-b3-spanid", OTHER_SPAN)],
        vec![("traceparent", "hello"), ("b3", &b3)],
        vec![("traceparent", &w3c), ("b3", &b3)],
        vec![("traceparent", &w3c)],
        vec![("b3", "0")],
        vec![],
    ];
    each_supported(|envoy| {
        let told = answers(envoy, &patched, &arrivals);
        let (_, continued) = &told[0];
        assert!(
            continued.contains(&format!("traceparent: 00-{OTHER_TRACE}-")),
            "{continued}"
        );
        assert_eq!(told, answers(envoy, &example, &arrivals));
        assert_ne!(told, answers(envoy, &without, &arrivals));
    });
}

#[test]
fn downstream_does_what_the_example_does_before_an_authoriser() {
    let example = common::yaml("examples/trace-context/envoy.yaml");
    let mut behind = example.clone();
    let manager = behind.pointer_mut(MANAGER).expect("the manager");
    list(&mut manager["http_filters"])[0] = json!({
        "name": "authoriser",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": r#"
                function envoy_on_request(request)
                  if request:headers():get("traceparent") == nil then
                    request:respond({[":status"] = "403"}, "no traceparent")
                  end
                end"#
            },
        },
    });
    let mut patched = behind.clone();
    apply(&envoy_filter(DOWNSTREAM), &mut patched);

    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let b3 = format!("{OTHER_TRACE}-{OTHER_SPAN}-1");
    let arrivals = [
        vec![("b3", b3.as_str())],
        vec![("x-b3-traceid", OTHER_TRACE), ("x-b3-spanid", OTHER_SPAN)],
        vec![("traceparent", "hello"), ("b3", &b3)],
        vec![("traceparent", &w3c), ("b3", &b3)],
    ];
    each_supported(|envoy| {
        let told = answers(envoy, &patched, &arrivals);
        assert_eq!(told, answers(envoy, &example, &arrivals));
        let (status, _) = answers(envoy, &behind, &arrivals)[0];
        assert_eq!(status, 403);
    });
}

#[test]
fn downstream_spells_the_defaults_out_and_fails_open() {
    let manifest = common::yaml(DOWNSTREAM);
    let filter = &manifest["spec"]["configPatches"][0]["patch"]["value"]["typed_config"];
    let config = &filter["config"];
    assert_eq!(config["failure_policy"], "FAIL_OPEN");
    let text = config["configuration"]["value"].as_str().expect("text");
    let compiled = |json: &str| {
        let config = read_and_compile(json);
        format!("{:?}", Propagation::new(&config).expect("it compiled"))
    };
    assert_eq!(compiled(text), compiled("{}"));
}
