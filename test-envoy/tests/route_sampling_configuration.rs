//! A bad configuration of `route_sampling`: inert at first load, refused as an update, and said in one line.

mod common;

use common::{Mesh, module};
use envoy_test_harness::client::Request;
use envoy_test_harness::config::{
    Bootstrap, HttpConnectionManager, HttpFilter, Listener, Route, WasmFilter,
};
use envoy_test_harness::{Envoy, EnvoyBinary};

const GOOD: &str = r#"{"default": "always"}"#;
/// Bad, and nothing that Envoy has seen before.
const BAD_UPDATE: &str = r#"{"default": {"ratio": 10}}"#;
const BAD: &str = r#"{"rules": [{"match": {"path": {"regex": "/a["}}, "sample": "always"}]}"#;
const BAD_LINE: &str = "route_sampling.rules[0].match.path.regex: not a regular expression";
const INVALID: &str = "wasmcustom.meshtrace.config_invalid";

fn envoys() -> Vec<EnvoyBinary> {
    EnvoyBinary::all_supported().expect("the supported Envoys")
}

fn filter(config: &str) -> WasmFilter {
    WasmFilter::new("route_sampling", module("route_sampling")).configuration(config)
}

fn ingress(filter: impl Into<HttpFilter>) -> Listener {
    let manager = HttpConnectionManager::new()
        .route(Route::prefix("/").cluster("upstream"))
        .filter(filter);
    Listener::http("ingress", manager)
}

/// The header by which the filter's decision reaches the tracer.
fn decided(mesh: &Mesh) -> Option<String> {
    let seen = mesh.pass(&mut mesh.connect("ingress"), &Request::get("/a"));
    seen.header_text("x-envoy-force-trace")
}

fn assert_works(mesh: &Mesh) {
    assert_eq!(decided(mesh).as_deref(), Some("true"));
}

fn assert_inert(mesh: &Mesh) {
    assert_eq!(decided(mesh), None);
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
        let mesh = Mesh::with(&envoy, Bootstrap::new().listener(ingress(filter(BAD))));
        assert_inert(&mesh);
    }
}

#[test]
fn over_lds_a_bad_first_configuration_loads_inert_and_a_bad_update_is_refused() {
    for envoy in envoys() {
        let mesh = Mesh::with(
            &envoy,
            Bootstrap::new().watched_listener(ingress(filter(BAD))),
        );
        assert_inert(&mesh);

        let update = |config| mesh.envoy.update_listener(ingress(filter(config)));
        update(GOOD).expect("an update that is taken");
        assert_works(&mesh);
        assert_eq!(mesh.envoy.stat(INVALID).ok(), Some(0));

        assert!(update(BAD_UPDATE).is_err(), "Envoy must not take it");
        mesh.envoy
            .wait_for_log("route_sampling.default.ratio: impossible value: 10")
            .expect("the refusal in Envoy's log");
        assert_works(&mesh);
        assert_eq!(mesh.envoy.stat(INVALID).ok(), Some(1));
    }
}

#[test]
fn over_ecds_a_bad_first_configuration_loads_inert_and_a_bad_update_is_refused() {
    for envoy in envoys() {
        let listener = ingress(filter(BAD).discovered());
        let mesh = Mesh::with(&envoy, Bootstrap::new().listener(listener));
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
    }
}

/// Header lines that are no text, no path, or very many: the request passes, and is decided about.
#[test]
fn no_request_fails_however_odd_it_is() {
    let config = r#"{
        "rules": [
            {"match": {"path": {"regex": "/[^/]*"}, "headers": [{"name": "x-bin", "prefix": "a"}]}, "sample": "never"},
            {"match": {"path": {"template": "/{a}/{b}"}, "host": "*.example"}, "sample": {"ratio": 0.5}}
        ],
        "force": {"header": "x-force", "value_env": "NOT_THERE"},
        "default": {"per_second": 1}
    }"#;
    let long = "/".to_owned() + &"x/".repeat(4000);
    for envoy in envoys() {
        let mesh = Mesh::with(&envoy, Bootstrap::new().listener(ingress(filter(config))));
        let mut connection = mesh.connect("ingress");
        for path in ["/", "//", "/%ff", "/?", &long] {
            let many = (0..80).map(|i| (format!("x-{i}"), b"\xff\xfe".as_slice()));
            let odd = [
                ("x-bin".to_owned(), &b"\xff\xfe"[..]),
                ("x-force".to_owned(), b"\xff"),
                ("traceparent".to_owned(), b"00-\xff"),
            ];
            let request = odd
                .into_iter()
                .chain(many)
                .fold(Request::get(path), |request, (name, value)| {
                    request.header(name, value)
                });
            let seen = mesh.pass(&mut connection, &request);
            assert_eq!(seen.header("x-force"), None);
        }
        let errors = mesh.envoy.stat("wasmcustom.meshtrace.host_errors");
        assert_eq!(errors.ok(), Some(0));
    }
}
