//! The code that the end-to-end tests of the filters share.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use envoy_test_harness::client::{Connection, Request};
use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, HttpFilter, Listener, Route, WasmFilter,
};
use envoy_test_harness::upstream::RecordedRequest;
use envoy_test_harness::{Envoy, EnvoyBinary, Options, Upstream};
use meshtrace_access_log::{AccessLogIds, AccessLogTraceConfig};
use meshtrace_config::read;
use serde_json::{Value, json};

/// The caller's trace id in most tests.
pub const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// The caller's span id in most tests.
pub const SPAN: &str = "00f067aa0ba902b7";
/// The headers of W3C Trace Context and of both shapes of B3.
pub const TRACE_HEADERS: [&str; 8] = [
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
];

/// The folder of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A file of the repository as text.
pub fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A YAML file of the repository.
pub fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents of a YAML file of the repository.
pub fn documents(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The path of a released filter, as `make build` writes it.
pub fn module(name: &str) -> PathBuf {
    built(&format!("dist/{name}.wasm"), "make build")
}

/// The path of a compiled fixture of this folder.
pub fn fixture(name: &str) -> PathBuf {
    built(&format!("target/fixtures/{name}.wasm"), "make fixtures")
}

/// The command line `meshtrace`, which a test of the whole workspace compiles.
pub fn command_line() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the test");
    let folder = test.ancestors().nth(2).expect("the target folder");
    let path = folder.join("meshtrace");
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --package meshtrace-cli`",
        path.display()
    );
    path
}

fn built(path: &str, target: &str) -> PathBuf {
    let path = root().join(path);
    assert!(
        path.exists(),
        "{} is missing: run `{target}`",
        path.display()
    );
    path
}

/// The filter with this configuration.
pub fn trace_context(config: &str) -> WasmFilter {
    WasmFilter::new("trace_context", module("trace_context")).configuration(config)
}

/// The filter with this configuration.
pub fn access_log_trace(config: &str) -> WasmFilter {
    WasmFilter::new("access_log_trace", module("access_log_trace")).configuration(config)
}

/// An `access_log_trace` configuration, in the types of the renderer and of the filter.
pub fn log_ids(config: &str) -> (AccessLogTraceConfig, AccessLogIds) {
    let config: AccessLogTraceConfig = read(config.as_bytes()).expect("a configuration");
    let ids = AccessLogIds::new(&config).expect("one that compiles");
    (config, ids)
}

/// The step before `access_log_trace` that its configuration needs, in the form that this Envoy
/// supports.
pub fn expose_ids(config: &AccessLogTraceConfig, envoy: &EnvoyBinary) -> Option<HttpFilter> {
    let version = envoy.reported_version().parse().expect("a version");
    let step = meshtrace_render::expose_ids(&config.ids, version)?;
    let name = step["name"].as_str().expect("a name");
    Some(HttpFilter::raw(name, step["typed_config"].clone()))
}

/// A manager that sends all requests to the cluster `upstream` through `filter`.
pub fn manager(filter: WasmFilter) -> HttpConnectionManager {
    HttpConnectionManager::new()
        .route(Route::prefix("/").cluster("upstream"))
        .filter(filter)
}

/// Every supported version, oldest first, for tests that need several at once. Other tests use
/// `each_supported`.
pub fn envoys() -> Vec<EnvoyBinary> {
    EnvoyBinary::all_supported().expect("the supported Envoys")
}

/// The newest supported version, for tests that do not depend on the version.
pub fn newest() -> EnvoyBinary {
    EnvoyBinary::version(EnvoyBinary::DEFAULT).expect("the newest Envoy")
}

/// An Envoy in front of an upstream that records requests.
#[derive(Debug)]
pub struct Mesh {
    /// The Envoy.
    pub envoy: Envoy,
    /// The upstream behind it.
    pub upstream: Upstream,
}

impl Mesh {
    /// The default Envoy, with one listener for each name and manager.
    pub fn start(managers: Vec<(&str, HttpConnectionManager)>) -> Self {
        let envoy = EnvoyBinary::find().expect("an Envoy");
        Self::start_on(&envoy, managers)
    }

    /// An Envoy of this binary, with one listener for each name and manager.
    pub fn start_on(binary: &EnvoyBinary, managers: Vec<(&str, HttpConnectionManager)>) -> Self {
        let listeners = managers
            .into_iter()
            .map(|(name, manager)| Listener::http(name, manager));
        Self::with(
            binary,
            listeners.fold(Bootstrap::new(), Bootstrap::listener),
        )
    }

    /// An Envoy with `bootstrap` and with the cluster `upstream`.
    pub fn with(binary: &EnvoyBinary, bootstrap: Bootstrap) -> Self {
        Self::with_options(binary, bootstrap, Options::new())
    }

    /// As [`Mesh::with`], with these options.
    pub fn with_options(binary: &EnvoyBinary, bootstrap: Bootstrap, options: Options) -> Self {
        let upstream = Upstream::start().expect("an upstream");
        let bootstrap = bootstrap.cluster(Cluster::http1("upstream", upstream.address()));
        let envoy = Envoy::start_with(binary, bootstrap, options).expect("an Envoy that starts");
        Self { envoy, upstream }
    }

    /// The address of the listener.
    pub fn address(&self, listener: &str) -> SocketAddr {
        self.envoy
            .address(listener)
            .expect("the listener's address")
    }

    /// A connection to the listener.
    pub fn connect(&self, listener: &str) -> Connection {
        Connection::open(self.address(listener)).expect("a connection")
    }

    /// Sends one request to `listener` and returns the request that the upstream received.
    pub fn pass(&self, connection: &mut Connection, request: &Request) -> RecordedRequest {
        self.upstream.take();
        let response = connection.send(request).expect("a response");
        assert_eq!(response.status, 200, "{request:?}: {}", response.text());
        let mut requests = self.upstream.take();
        assert_eq!(requests.len(), 1, "{request:?}");
        requests.remove(0)
    }
}

/// Sends requests to `ingress` without a pause while `change` runs, and until the clients have sent
/// some more after it. Returns the number of requests.
pub fn under_load(mesh: &Mesh, change: impl FnOnce()) -> usize {
    const CLIENTS: usize = 4;
    /// The number of requests for each client before and after the change, so that some are on
    /// their way at every moment of it.
    const REQUESTS: usize = 25;

    let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let b3 = format!("{TRACE}-{SPAN}-1");
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection =
                    Connection::open(mesh.address("ingress")).expect("a connection");
                while !stop.load(Ordering::Relaxed) {
                    // All requests use one connection, because the change must not close it.
                    let response = connection.send(&get(&[("b3", &b3)])).expect("a response");
                    assert_eq!(response.status, 200, "{}", response.text());
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let wait_for_more = || {
            let before = sent.load(Ordering::Relaxed);
            while sent.load(Ordering::Relaxed) < before + CLIENTS * REQUESTS {
                thread::yield_now();
            }
        };
        wait_for_more();
        change();
        wait_for_more();
        stop.store(true, Ordering::Relaxed);
    });
    mesh.upstream.take();
    sent.into_inner()
}

/// A request for `/` with these headers.
pub fn get(headers: &[(&str, &str)]) -> Request {
    headers
        .iter()
        .fold(Request::get("/"), |request, (name, value)| {
            request.header(name, value)
        })
}

/// The trace headers of a request: `name: value`, sorted.
pub fn trace_headers(request: &RecordedRequest) -> Vec<String> {
    let mut headers: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| (String::from_utf8_lossy(name).to_lowercase(), value))
        .filter(|(name, _)| TRACE_HEADERS.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {}", value.escape_ascii()))
        .collect();
    headers.sort();
    headers
}

/// A listener with these filters in front of the upstream.
pub fn listener(name: &str, filters: Vec<HttpFilter>) -> Listener {
    let manager = HttpConnectionManager::new().route(Route::prefix("/").cluster("upstream"));
    Listener::http(
        name,
        filters
            .into_iter()
            .fold(manager, HttpConnectionManager::filter),
    )
}

/// Envoy's RBAC filter, which denies every request.
pub fn deny() -> HttpFilter {
    let everything = json!({"permissions": [{"any": true}], "principals": [{"any": true}]});
    HttpFilter::raw(
        "deny",
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "DENY", "policies": {"all": everything}},
        }),
    )
}
