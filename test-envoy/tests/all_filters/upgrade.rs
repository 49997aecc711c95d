//! A new version of a plugin while requests are on their way, as Istio delivers it: over ECDS. What
//! the documentation says of upgrades and rollbacks is what is seen here.

use std::fs;
use std::path::{Path, PathBuf};

use envoy_test_harness::config::{
    Bootstrap, Cluster, FailurePolicy, HttpConnectionManager, HttpFilter, Listener, Route,
    WasmFilter,
};
use envoy_test_harness::{Envoy, EnvoyBinary, Upstream, each_supported};
use meshtrace_test_support::common::{self, Mesh, SPAN, TRACE, get, trace_headers, under_load};
use serde_json::json;
use tempfile::TempDir;

const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";

/// The released module as another version: a custom section changes what Envoy knows a module by,
/// and nothing else.
fn version(folder: &Path, number: u8) -> PathBuf {
    let mut module = fs::read(common::module("trace_context")).expect("the module");
    // Section 0, its size, the length of its name, its name, its content.
    module.extend([0, 3, 1, b'v', number]);
    let path = folder.join(format!("{number}.wasm"));
    fs::write(&path, module).expect("written");
    path
}

fn plugin(module: &Path, inject: &str) -> WasmFilter {
    WasmFilter::new("trace_context", module)
        .configuration(format!(r#"{{"inject": ["{inject}"]}}"#))
        .failure_policy(FailurePolicy::FailOpen)
}

/// What Istio's agent delivers in place of a module that it cannot fetch, with FAIL_OPEN.
fn fallback() -> HttpFilter {
    HttpFilter::raw(
        "trace_context",
        json!({"@type": RBAC, "rules_stat_prefix": "wasm-default-allow"}),
    )
}

fn mesh(envoy: &EnvoyBinary, first: WasmFilter) -> Mesh {
    let manager = HttpConnectionManager::new()
        .route(Route::prefix("/").cluster("upstream"))
        .filter(HttpFilter::from(first).discovered_as(RBAC));
    Mesh::with(
        envoy,
        Bootstrap::new().listener(Listener::http("ingress", manager)),
    )
}

/// Whether the application is told in W3C and in B3.
fn told(mesh: &Mesh) -> (bool, bool) {
    let b3 = format!("{TRACE}-{SPAN}-1");
    let left = mesh.pass(&mut mesh.connect("ingress"), &get(&[("b3", &b3)]));
    let left = trace_headers(&left).join("\n");
    (left.contains("traceparent"), left.contains("x-b3-traceid"))
}

#[test]
fn no_request_fails_while_a_plugin_is_replaced_and_replaced_back() {
    each_supported(|envoy| {
        let folder = TempDir::new().expect("a folder");
        let (old, new) = (version(folder.path(), 1), version(folder.path(), 2));
        let mesh = mesh(envoy, plugin(&old, "tracecontext"));
        assert_eq!(told(&mesh), (true, false));
        for _ in 0..3 {
            under_load(&mesh, || {
                let update = mesh.envoy.update_extension(plugin(&new, "b3multi"));
                update.expect("the new version");
            });
            assert_eq!(told(&mesh), (false, true), "upgraded");
            under_load(&mesh, || {
                let update = mesh.envoy.update_extension(plugin(&old, "tracecontext"));
                update.expect("the old version");
            });
            assert_eq!(told(&mesh), (true, false), "rolled back");
        }
    });
}

#[test]
fn a_version_that_does_not_load_leaves_the_old_one_in_force() {
    each_supported(|envoy| {
        let folder = TempDir::new().expect("a folder");
        let old = version(folder.path(), 1);
        let broken = folder.path().join("broken.wasm");
        fs::write(&broken, b"\0asm\x01\0\0\0hello").expect("written");
        let mesh = mesh(envoy, plugin(&old, "tracecontext"));
        under_load(&mesh, || {
            let refused = mesh.envoy.update_extension(plugin(&broken, "b3multi"));
            assert!(refused.is_err(), "Envoy must not take it");
        });
        assert_eq!(told(&mesh), (true, false));
    });
}

#[test]
fn a_version_that_cannot_be_fetched_bypasses_the_filter_and_fails_no_request() {
    each_supported(|envoy| {
        let folder = TempDir::new().expect("a folder");
        let (old, new) = (version(folder.path(), 1), version(folder.path(), 2));
        let mesh = mesh(envoy, plugin(&old, "tracecontext"));
        under_load(&mesh, || {
            let update = mesh.envoy.update_extension(fallback().discovered());
            update.expect("the agent's fallback");
        });
        assert_eq!(told(&mesh), (false, false), "the old version is gone too");
        under_load(&mesh, || {
            let update = mesh.envoy.update_extension(plugin(&new, "b3multi"));
            update.expect("fetched at last");
        });
        assert_eq!(told(&mesh), (false, true));
    });
}

/// What decides from which Istio on an upstream filter may come from an image.
#[test]
fn the_fallback_is_known_among_upstream_filters_since_1_39() {
    let upstream = Upstream::start().expect("an upstream");
    each_supported(|envoy| {
        let filter = WasmFilter::new("trace_context", common::module("trace_context"))
            .configuration(
                r#"{"placement": "upstream", "tracer": "b3", "inject": ["tracecontext"]}"#,
            );
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/").cluster("upstream"))
            .upstream_filter(HttpFilter::from(filter).discovered_as(RBAC));
        let bootstrap = Bootstrap::new()
            .listener(Listener::http("ingress", manager))
            .cluster(Cluster::http1("upstream", upstream.address()));
        let started = Envoy::start(envoy, bootstrap);
        if !envoy.is_at_least(1, 39) {
            let why = started.expect_err("a refused listener").to_string();
            assert!(why.contains("rbac"), "{why}");
            return;
        }
        let mesh = Mesh {
            envoy: started.expect("an Envoy that starts"),
            upstream: Upstream::start().expect("another"),
        };
        let send = || {
            upstream.take();
            let b3 = format!("{TRACE}-{SPAN}-1");
            let response = mesh.connect("ingress").send(&get(&[("b3", &b3)]));
            assert_eq!(response.expect("a response").status, 200);
            trace_headers(&upstream.take().remove(0)).len()
        };
        assert_eq!(send(), 2, "b3 and traceparent");
        let update = mesh.envoy.update_extension(fallback().discovered());
        update.expect("the agent's fallback");
        assert_eq!(send(), 1, "b3 as it came");
    });
}
