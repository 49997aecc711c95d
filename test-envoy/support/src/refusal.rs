//! What becomes of a bad configuration, the same for every filter: inert at first load, the last
//! good one as an update, and said in one line.

use envoy_test_harness::config::{
    Bootstrap, HttpConnectionManager, HttpFilter, Listener, Route, WasmFilter,
};
use envoy_test_harness::{Envoy, each_supported};

use crate::common::{Mesh, module};

const INVALID: &str = "wasmcustom.meshtrace.config_invalid";

/// A filter, and what its configurations make of it.
#[derive(Debug)]
pub struct Filter {
    /// The filter's name.
    pub name: &'static str,
    /// A configuration that the filter takes.
    pub good: &'static str,
    /// A configuration that it refuses.
    pub bad: &'static str,
    /// What the log says of it.
    pub bad_line: &'static str,
    /// Bad too, and nothing that Envoy has seen before.
    pub bad_update: &'static str,
    /// What the log says of that.
    pub bad_update_line: &'static str,
}

/// Whether a request shows that the filter works; if not, that it passes unchanged.
pub type Works = fn(&Mesh) -> bool;

impl Filter {
    /// The filter with this configuration.
    pub fn with(&self, config: &str) -> WasmFilter {
        WasmFilter::new(self.name, module(self.name)).configuration(config)
    }

    /// In a static listener the bad configuration loads inert.
    pub fn in_a_static_listener(&self, works: Works) {
        each_supported(|envoy| {
            let bootstrap = Bootstrap::new().listener(ingress(self.with(self.bad)));
            let mesh = Mesh::with(envoy, bootstrap);
            self.assert_inert(&mesh.envoy, works(&mesh));
        });
    }

    /// Over LDS the bad configuration loads inert, and a bad update leaves the last good one in
    /// force.
    pub fn over_lds(&self, works: Works) {
        each_supported(|envoy| {
            let listener = |config: &str| ingress(self.with(config));
            let bootstrap = Bootstrap::new().watched_listener(listener(self.bad));
            let mesh = Mesh::with(envoy, bootstrap);
            self.updates(&mesh.envoy, listener, || works(&mesh));
        });
    }

    /// Takes an Envoy whose watched listener has the bad configuration through a good one, a bad
    /// update, and the bad one again.
    pub fn updates(
        &self,
        envoy: &Envoy,
        listener: impl Fn(&str) -> Listener,
        works: impl Fn() -> bool,
    ) {
        self.assert_inert(envoy, works());

        let update = |config: &str| envoy.update_listener(listener(config));
        update(self.good).expect("an update that is taken");
        assert!(works());
        assert_eq!(envoy.stat(INVALID).ok(), Some(0));

        update(self.bad_update).expect("an update that is taken");
        for line in [self.bad_update_line, "the configuration in force stays"] {
            envoy.wait_for_log(line).expect("the refusal");
        }
        assert!(works());
        assert_eq!(envoy.stat(INVALID).ok(), Some(1));

        // The root context of the first configuration is there while its listener drains, and Envoy
        // takes it again.
        update(self.bad).expect("an update that is taken");
        assert!(works());
        assert_eq!(envoy.stat(INVALID).ok(), Some(1));
    }

    /// Over ECDS the bad configuration loads inert, and a bad update leaves the last good one in
    /// force.
    pub fn over_ecds(&self, works: Works) {
        each_supported(|envoy| {
            let discovered = ingress(self.with(self.bad).discovered());
            let mesh = Mesh::with(envoy, Bootstrap::new().listener(discovered));
            self.assert_inert(&mesh.envoy, works(&mesh));

            let update = |config: &str| mesh.envoy.update_extension(self.with(config));
            update(self.good).expect("an update that is taken");
            assert!(works(&mesh));

            update(self.bad_update).expect("an update that is taken");
            mesh.envoy
                .wait_for_log("the last good one of this plugin runs")
                .expect("the refusal");
            assert!(works(&mesh));
            assert_eq!(mesh.envoy.stat(INVALID).ok(), Some(1));
        });
    }

    /// `MESHTRACE_STRICT=1`: no start with a bad configuration.
    pub fn where_it_is_strict(&self) {
        each_supported(|envoy| {
            let strict = self.with(self.bad).env("MESHTRACE_STRICT", "1");
            let manager = HttpConnectionManager::new()
                .route(Route::prefix("/").direct_response(200, "ok"))
                .filter(strict);
            let bootstrap = Bootstrap::new().listener(Listener::http("ingress", manager));
            let refusal = Envoy::start(envoy, bootstrap)
                .expect_err("a refused start")
                .to_string();
            assert!(refusal.contains(self.bad_line), "{refusal}");
            assert!(refusal.contains("MESHTRACE_STRICT=1"), "{refusal}");
        });
    }

    fn assert_inert(&self, envoy: &Envoy, works: bool) {
        assert!(!works);
        for line in [
            self.bad_line,
            "the filter is loaded inert and changes nothing",
        ] {
            envoy.wait_for_log(line).expect("the refusal");
        }
        assert_eq!(envoy.stat(INVALID).ok(), Some(1));
    }
}

fn ingress(filter: impl Into<HttpFilter>) -> Listener {
    let manager = HttpConnectionManager::new()
        .route(Route::prefix("/").cluster("upstream"))
        .filter(filter);
    Listener::http("ingress", manager)
}
