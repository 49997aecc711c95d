//! An Envoy whose tracer is `libmeshtrace.so`, between a client, an upstream and a collector.

use std::path::{Path, PathBuf};

use envoy_test_harness::config::{
    Bootstrap, HttpConnectionManager, HttpFilter, Listener, Route, Tracing,
};
use envoy_test_harness::{EnvoyBinary, Options};
use serde_json::{Value, json};

use crate::common::root;
use crate::host::Host;
use crate::reporting::Collected;

/// The Envoys that can have a dynamic module as their tracer.
pub fn envoys() -> Vec<EnvoyBinary> {
    EnvoyBinary::all_with_native_tracer().expect("the Envoys that take a tracer from a module")
}

/// The folder to which `make build` copies the module. `MESHTRACE_NATIVE_FOLDER` names another one,
/// for a build with a sanitizer.
pub fn folder() -> PathBuf {
    let other = std::env::var_os("MESHTRACE_NATIVE_FOLDER");
    let folder = root().join(other.unwrap_or_else(|| "dist".into()));
    let module = folder.join("libmeshtrace.so");
    assert!(module.exists(), "{}: run `make build`", module.display());
    folder.canonicalize().expect("the folder")
}

/// The options with which Envoy finds the module.
pub fn options() -> Options {
    options_in(&folder())
}

/// The options with which Envoy finds the modules of this folder.
pub fn options_in(folder: &Path) -> Options {
    let folder = folder.canonicalize().expect("the folder");
    let folder = folder.to_str().expect("a path that is text");
    Options::new().env("ENVOY_DYNAMIC_MODULES_SEARCH_PATH", folder)
}

/// The options with which Envoy finds a module that has faults for a request to provoke.
pub fn provoked() -> Options {
    if std::env::var_os("MESHTRACE_NATIVE_FOLDER").is_some() {
        return options();
    }
    let folder = root().join("target/fixtures/native");
    assert!(folder.exists(), "{}: run `make fixtures`", folder.display());
    options_in(&folder)
}

/// The module, in the form in which each of its extensions loads it.
fn module() -> Value {
    json!({"name": "meshtrace", "do_not_close": true})
}

/// The native tracer with this configuration.
pub fn tracing(config: impl ToString) -> Tracing {
    Tracing::raw(
        "meshtrace",
        json!({
            "@type": "type.googleapis.com/envoy.extensions.tracers.dynamic_modules.v3.DynamicModuleTracer",
            "dynamic_module_config": module(),
            "tracer_name": "mesh_tracing",
            "tracer_config": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": config.to_string(),
            },
        }),
    )
}

/// The filter whose configuration makes the calls of the export.
pub fn export() -> HttpFilter {
    let filter = json!({
        "@type": concat!(
            "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.",
            "DynamicModuleFilter"
        ),
        "dynamic_module_config": module(),
        "filter_name": "mesh_tracing_export",
    });
    HttpFilter::raw("mesh_tracing_export", filter).merge(json!({"disabled": true}))
}

/// The early header mutation that joins the lines of a repeated header. Envoy has it from 1.40 on.
pub fn lines() -> Value {
    json!({
        "name": "mesh_tracing_lines",
        "typed_config": {
            "@type": concat!(
                "type.googleapis.com/envoy.extensions.http.early_header_mutation.",
                "dynamic_modules.v3.DynamicModuleEarlyHeaderMutation"
            ),
            "dynamic_module_config": module(),
            "early_header_mutation_name": "mesh_tracing_lines",
        },
    })
}

/// The bootstrap extension that empties the queues at shutdown.
pub fn flush() -> Value {
    json!({"bootstrap_extensions": [{
        "name": "envoy.bootstrap.dynamic_modules",
        "typed_config": {
            "@type": concat!(
                "type.googleapis.com/envoy.extensions.bootstrap.dynamic_modules.v3.",
                "DynamicModuleBootstrapExtension"
            ),
            "dynamic_module_config": module(),
            "extension_name": "mesh_tracing_flush",
        },
    }]})
}

/// A manager with this tracer. All requests go to `upstream`, except those to `/direct`.
pub fn manager(tracing: Tracing) -> HttpConnectionManager {
    HttpConnectionManager::new()
        .route(Route::prefix("/direct").direct_response(404, "no"))
        .route(Route::prefix("/").cluster("upstream"))
        .filter(export())
        .tracing(tracing)
}

/// An Envoy with this manager in its listener `ingress`.
pub fn start(binary: &EnvoyBinary, protocol: &str, manager: HttpConnectionManager) -> Collected {
    let bootstrap = Bootstrap::new().listener(Listener::http("ingress", manager));
    Host::Native.start_with(binary, protocol, bootstrap)
}
