//! The effect of a bad configuration, which is the same for every filter. At first load the filter
//! is inert, after an update the last good configuration stays, and the log has one line about it.

use envoy_test_harness::config::{
    Bootstrap, HttpConnectionManager, HttpFilter, Listener, Route, WasmFilter,
};
use envoy_test_harness::{Envoy, each_supported};

use crate::common::{Mesh, module};

const INVALID: &str = "wasmcustom.meshtrace.config_invalid";

/// A filter with a good configuration, and with bad ones.
#[derive(Debug)]
pub struct Filter {
    /// The filter's name.
    pub name: &'static str,
    /// A configuration that the filter accepts.
    pub good: &'static str,
    /// A configuration that the filter refuses.
    pub bad: &'static str,
    /// The log line about it.
    pub bad_line: &'static str,
    /// Another configuration that the filter refuses. Envoy has not seen it before.
    pub bad_update: &'static str,
    /// The log line about that one.
    pub bad_update_line: &'static str,
}

/// Whether a request shows that the filter works. If it does not work, the request passes
/// unchanged.
pub type Works = fn(&Mesh) -> bool;

impl Filter {
    /// The filter with this configuration.
    pub fn with(&self, config: &str) -> WasmFilter {
        WasmFilter::new(self.name, module(self.name)).configuration(config)
    }

    /// In a static listener the filter with the bad configuration is inert.
    pub fn in_a_static_listener(&self, works: Works) {
        each_supported(|envoy| {
            let bootstrap = Bootstrap::new().listener(ingress(self.with(self.bad)));
            let mesh = Mesh::with(envoy, bootstrap);
            self.assert_inert(&mesh.envoy, works(&mesh));
        });
    }

    /// Over LDS the filter with the bad configuration is inert, and after a bad update the last
    /// good configuration stays in force.
    pub fn over_lds(&self, works: Works) {
        each_supported(|envoy| {
            let listener = |config: &str| ingress(self.with(config));
            let bootstrap = Bootstrap::new().watched_listener(listener(self.bad));
            let mesh = Mesh::with(envoy, bootstrap);
            self.updates(&mesh.envoy, listener, || works(&mesh));
        });
    }

    /// Runs an Envoy whose watched listener has the bad configuration. The listener then gets a
    /// good one, a bad update, and the bad one again.
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

        // The root context of the first configuration exists while its listener drains, and Envoy
        // uses it again.
        update(self.bad).expect("an update that is taken");
        assert!(works());
        assert_eq!(envoy.stat(INVALID).ok(), Some(1));
    }

    /// Over ECDS the filter with the bad configuration is inert, and after a bad update the last
    /// good configuration stays in force.
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

    /// With `MESHTRACE_STRICT=1` Envoy does not start with a bad configuration.
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
