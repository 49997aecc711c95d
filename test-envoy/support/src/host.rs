//! The two hosts of `mesh_tracing`: a test that says nothing about one of them runs on both.

use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, Listener, Route};
use envoy_test_harness::{EnvoyBinary, Options, each};

use crate::native;
use crate::reporting::{Collected, mesh_tracing, reporting};

/// What runs `mesh_tracing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The Wasm filter.
    Wasm,
    /// The native tracer.
    Native,
}

impl Host {
    /// Both hosts.
    pub const ALL: [Self; 2] = [Self::Wasm, Self::Native];

    /// The Envoys that have this host, oldest first.
    pub fn envoys(self) -> Vec<EnvoyBinary> {
        match self {
            Self::Wasm => EnvoyBinary::all_supported().expect("the supported Envoys"),
            Self::Native => native::envoys(),
        }
    }

    /// Makes `mesh_tracing` with this configuration the tracer of `manager`.
    pub fn trace(
        self,
        manager: HttpConnectionManager,
        config: impl ToString,
    ) -> HttpConnectionManager {
        match self {
            Self::Wasm => manager.filter(mesh_tracing(config)),
            Self::Native => manager
                .filter(native::export())
                .tracing(native::tracing(config)),
        }
    }

    /// A traced manager. All requests go to `upstream`, except those to `/direct`.
    pub fn manager(self, config: impl ToString) -> HttpConnectionManager {
        let manager = HttpConnectionManager::new()
            .route(Route::prefix("/direct").direct_response(404, "no"))
            .route(Route::prefix("/").cluster("upstream"));
        self.trace(manager, config)
    }

    /// The options of an Envoy with this host.
    pub fn options(self) -> Options {
        match self {
            Self::Wasm => Options::new(),
            Self::Native => native::options(),
        }
    }

    /// An Envoy with this configuration in its listener `ingress`, which reports over HTTP.
    pub fn start(self, binary: &EnvoyBinary, config: impl ToString) -> Collected {
        let listener = Listener::http("ingress", self.manager(config));
        let bootstrap = Bootstrap::new().listener(listener);
        self.start_with(binary, "http/protobuf", bootstrap)
    }

    /// An Envoy that reports with this protocol and these keys of `report`.
    pub fn reporting(self, binary: &EnvoyBinary, protocol: &str, report: &str) -> Collected {
        let listener = Listener::http("ingress", self.manager(reporting(protocol, report)));
        self.start_with(binary, protocol, Bootstrap::new().listener(listener))
    }

    /// An Envoy with `bootstrap` and with the clusters `upstream` and `collector`.
    pub fn start_with(
        self,
        binary: &EnvoyBinary,
        protocol: &str,
        bootstrap: Bootstrap,
    ) -> Collected {
        Collected::on(self, binary, protocol, bootstrap, self.options())
    }

    /// Envoy's name of a counter of ours.
    pub fn counter(self, name: &str) -> String {
        match self {
            Self::Wasm => format!("wasmcustom.meshtrace.{name}"),
            Self::Native => format!("dynamicmodulescustom.meshtrace.{name}"),
        }
    }
}

/// Runs a test on each host, and there on each version that has it. It runs on all of them, also
/// after a failure. The text names the version and the host.
#[track_caller]
pub fn each_host(mut test: impl FnMut(Host, &EnvoyBinary, &str)) {
    let on = |host: Host| {
        let with_name = move |envoy: EnvoyBinary| {
            let name = format!("Envoy {}, {host:?}", envoy.reported_version());
            (name.clone(), (host, envoy, name))
        };
        host.envoys().into_iter().map(with_name)
    };
    each(Host::ALL.into_iter().flat_map(on), |(host, envoy, name)| {
        test(host, &envoy, &name)
    });
}
