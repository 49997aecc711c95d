//! `span_attributes`: a bad configuration is inert at first load, refused as an update, and said in one line.

mod common;

use common::{Mesh, manager, module};
use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, Listener, Route, WasmFilter};
use envoy_test_harness::{Envoy, EnvoyBinary};

/// What the filter does is seen in a header.
const GOOD: &str = r#"{"emit": {"request_header_prefix": "x-span-attr-"}}"#;
/// Bad, and nothing that Envoy has seen before.
const BAD_UPDATE: &str = r#"{"emit": {"filter_state": false}}"#;
const BAD: &str = r#"{"attributes": [
    {"key": "a", "from": {"header": "a"}},
    {"key": "b", "from": {"header": "b"}},
    {"key": "c", "from": {"cookies": "c"}}
]}"#;
const BAD_LINE: &str = "span_attributes.attributes[2].from: unknown source \"cookies\", expected one of `header`, \
                        `response_header`, `cookie`, `query`, `path` (with `capture`), `baggage`, `jwt_claim`, \
                        `property`, `env`, `literal`";
const INVALID: &str = "wasmcustom.meshtrace.config_invalid";

fn envoys() -> Vec<EnvoyBinary> {
    EnvoyBinary::all_supported().expect("the supported Envoys")
}

fn filter(config: &str) -> WasmFilter {
    WasmFilter::new("span_attributes", module("span_attributes")).configuration(config)
}

fn ingress(filter: WasmFilter) -> Listener {
    Listener::http("ingress", manager(filter))
}

/// What leaves in the header of `user.id`.
fn left(mesh: &Mesh) -> Option<String> {
    let request = Request::get("/").header("x-user-id", "alice");
    let left = mesh.pass(&mut mesh.connect("ingress"), &request);
    left.header_text("x-span-attr-user-id")
}

fn assert_works(mesh: &Mesh) {
    assert_eq!(left(mesh).as_deref(), Some("alice"));
}

fn assert_inert(mesh: &Mesh) {
    assert_eq!(left(mesh), None);
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
        let bootstrap = Bootstrap::new().listener(ingress(filter(BAD)));
        assert_inert(&Mesh::with(&envoy, bootstrap));
    }
}

#[test]
fn over_lds_a_bad_first_configuration_loads_inert_and_a_bad_update_is_refused() {
    for envoy in envoys() {
        let bootstrap = Bootstrap::new().watched_listener(ingress(filter(BAD)));
        let mesh = Mesh::with(&envoy, bootstrap);
        assert_inert(&mesh);

        mesh.envoy
            .update_listener(ingress(filter(GOOD)))
            .expect("an update that is taken");
        assert_works(&mesh);
        assert_eq!(mesh.envoy.stat(INVALID).ok(), Some(0));

        let refused = mesh.envoy.update_listener(ingress(filter(BAD_UPDATE)));
        assert!(refused.is_err(), "Envoy must not take it");
        assert_works(&mesh);
        assert_eq!(mesh.envoy.stat(INVALID).ok(), Some(1));
    }
}

#[test]
fn over_ecds_a_bad_first_configuration_loads_inert_and_a_bad_update_is_refused() {
    for envoy in envoys() {
        let discovered = HttpConnectionManager::new()
            .route(Route::prefix("/").cluster("upstream"))
            .filter(filter(BAD).discovered());
        let bootstrap = Bootstrap::new().listener(Listener::http("ingress", discovered));
        let mesh = Mesh::with(&envoy, bootstrap);
        assert_inert(&mesh);

        mesh.envoy
            .update_extension(filter(GOOD))
            .expect("an update that is taken");
        assert_works(&mesh);

        let refused = mesh.envoy.update_extension(filter(BAD_UPDATE));
        assert!(refused.is_err(), "Envoy must not take it");
        assert_works(&mesh);
    }
}

#[test]
fn strict_refuses_a_bad_first_configuration() {
    for envoy in envoys() {
        let strict = filter(BAD).env("MESHTRACE_STRICT", "1");
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
