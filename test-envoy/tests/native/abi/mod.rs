//! A module that is written for another ABI than Envoy's.

use std::process::Command;

use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, Listener, Route};
use envoy_test_harness::{Envoy, Error};
use meshtrace_test_support::native::{envoys, options_in, tracing};
use meshtrace_test_support::reporting::reporting;

/// Envoy itself refuses it, in a line with both versions: the module is not asked.
#[test]
fn a_module_for_another_abi_is_refused_by_envoy_with_both_versions() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/native/abi/other.c");
    let compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(folder.path().join("libmeshtrace.so"))
        .arg(source)
        .status();
    assert!(compiler.expect("cc, which links Rust too").success());
    for envoy in envoys() {
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/").direct_response(200, ""))
            .tracing(tracing(reporting("http/protobuf", "{}")));
        let bootstrap = Bootstrap::new().listener(Listener::http("ingress", manager));
        let outcome = Envoy::start_with(&envoy, bootstrap, options_in(folder.path()));
        let Err(error @ Error::EnvoyExited { .. }) = outcome else {
            panic!("{outcome:?}");
        };
        let text = error.to_string();
        assert!(text.contains("v99.0.0"), "{text}");
        assert!(text.contains("ABI version"), "{text}");
    }
}
