//! A bad configuration: inert at first load, refused as an update, and said in one line.

mod common;

use common::{Mesh, TRACE, get, manager, trace_context, trace_headers};
use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, Listener, Route, WasmFilter};
use envoy_test_harness::{Envoy, EnvoyBinary};

const GOOD: &str = r#"{"inject": ["b3"]}"#;
/// Bad, and nothing that Envoy has seen before.
const BAD_UPDATE: &str = r#"{"on_defer": "maybe"}"#;
const BAD: &str = r#"{"extract": ["tracecontext", "b4"]}"#;
const BAD_LINE: &str = "trace_context.extract[1]: unknown variant `b4`, expected one of \
                        `tracecontext`, `b3`, `b3multi`, `jaeger`, `ottrace`, `xray`, `gcp`, \
                        `datadog`, `grpc-trace-bin`";
const INVALID: &str = "wasmcustom.meshtrace.config_invalid";

fn envoys() -> Vec<EnvoyBinary> {
    EnvoyBinary::all_supported().expect("the supported Envoys")
}

fn ingress(filter: WasmFilter) -> Listener {
    Listener::http("ingress", manager(filter))
}

/// What leaves of a request whose context came in W3C.
fn left(mesh: &Mesh) -> Vec<String> {
    let request = get(&[("traceparent", &format!("00-{TRACE}-{}-01", common::SPAN))]);
    trace_headers(&mesh.pass(&mut mesh.connect("ingress"), &request))
}

fn assert_works(mesh: &Mesh) {
    let left = left(mesh);
    let b3 = format!("b3: {TRACE}-{}-1", common::SPAN);
    assert!(left.contains(&b3), "{left:?}");
}

fn assert_inert(mesh: &Mesh) {
    let traceparent = format!("traceparent: 00-{TRACE}-{}-01", common::SPAN);
    assert_eq!(left(mesh), [traceparent]);
    mesh.envoy
        .wait_for_log(BAD_LINE)
        .expect("the refusal in Envoy's log");
    mesh.envoy
        .wait_for_log("the filter is loaded inert and changes nothing")
        .expect("what follows from it");
    assert_eq!(mesh.envoy.stat(INVALID).ok(), Some(1));
}

#[test]
fn a_bad_first_configuration_loads_inert_in_a_static_listener() {
    for envoy in envoys() {
        let mesh = Mesh::with(
            &envoy,
            Bootstrap::new().listener(ingress(trace_context(BAD))),
        );
        assert_inert(&mesh);
    }
}

#[test]
fn over_lds_a_bad_first_configuration_loads_inert_and_a_bad_update_is_refused() {
    for envoy in envoys() {
        let bootstrap = Bootstrap::new().watched_listener(ingress(trace_context(BAD)));
        let mesh = Mesh::with(&envoy, bootstrap);
        assert_inert(&mesh);

        mesh.envoy
            .update_listener(ingress(trace_context(GOOD)))
            .expect("an update that is taken");
        assert_works(&mesh);
        assert_eq!(mesh.envoy.stat(INVALID).ok(), Some(0));

        let refused = mesh
            .envoy
            .update_listener(ingress(trace_context(BAD_UPDATE)));
        assert!(refused.is_err(), "Envoy must not take it");
        mesh.envoy
            .wait_for_log("the configuration in force stays")
            .expect("what follows from it");
        assert_works(&mesh);
        assert_eq!(mesh.envoy.stat(INVALID).ok(), Some(1));

        // Envoy remembers that the first configuration loaded, and does not ask again: it is inert.
        mesh.envoy
            .update_listener(ingress(trace_context(BAD)))
            .expect("an update that is taken");
        assert_inert(&mesh);
    }
}

#[test]
fn over_ecds_a_bad_first_configuration_loads_inert_and_a_bad_update_is_refused() {
    for envoy in envoys() {
        let discovered = Listener::http(
            "ingress",
            HttpConnectionManager::new()
                .route(Route::prefix("/").cluster("upstream"))
                .filter(trace_context(BAD).discovered()),
        );
        let mesh = Mesh::with(&envoy, Bootstrap::new().listener(discovered));
        assert_inert(&mesh);

        mesh.envoy
            .update_extension(trace_context(GOOD))
            .expect("an update that is taken");
        assert_works(&mesh);

        let refused = mesh.envoy.update_extension(trace_context(BAD_UPDATE));
        assert!(refused.is_err(), "Envoy must not take it");
        assert_works(&mesh);
    }
}

#[test]
fn strict_refuses_a_bad_first_configuration() {
    for envoy in envoys() {
        let strict = trace_context(BAD).env("MESHTRACE_STRICT", "1");
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/").direct_response(200, "ok"))
            .filter(strict);
        let bootstrap = Bootstrap::new().listener(Listener::http("ingress", manager));
        let refusal = Envoy::start(&envoy, bootstrap)
            .expect_err("a refused start")
            .to_string();
        assert!(refusal.contains(BAD_LINE), "{refusal}");
        assert!(refusal.contains("MESHTRACE_STRICT=1"), "{refusal}");
    }
}

#[test]
fn what_is_not_json_is_said_to_be_so() {
    let mesh = Mesh::start(vec![("ingress", manager(trace_context("extract: [b3]")))]);
    mesh.envoy
        .wait_for_log("trace_context: not JSON (")
        .expect("the refusal in Envoy's log");
    let text = left(&mesh);
    assert_eq!(text.len(), 1, "{text:?}");
}

/// Plugins of one image share a VM in Istio; one's bad configuration is not the other's.
#[test]
fn plugins_that_share_a_vm_keep_their_own_configuration() {
    let good = WasmFilter::new("good", common::module("trace_context")).configuration(GOOD);
    let bad = WasmFilter::new("bad", common::module("trace_context")).configuration(BAD);
    let (good, bad) = (good.vm_id("shared"), bad.vm_id("shared"));
    let mesh = Mesh::start(vec![("ingress", manager(good)), ("other", manager(bad))]);
    assert_works(&mesh);
    let request = get(&[("traceparent", "malformed")]);
    let other = mesh.pass(&mut mesh.connect("other"), &request);
    assert_eq!(trace_headers(&other), ["traceparent: malformed"]);
}
