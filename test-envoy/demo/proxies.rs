//! The two Envoys, and what the filters' pieces add to their configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, TraceContextOption, Tracing,
    TrafficDirection, WasmFilter,
};
use envoy_test_harness::{AccessLog, Envoy, EnvoyBinary, Error, Options};
use meshtrace_propagation::TraceContextConfig;
use meshtrace_render::{Tracer, early_mutation};
use meshtrace_test_support::native;
use serde_json::{Value, json};
use span_waterfall::Given;

use crate::story::{GATEWAY, PAYMENTS, Piece, SIDECAR, STOREFRONT, TO_PAYMENTS, TO_STOREFRONT};

const ENTRANCE: &str = "entrance";
const INBOUND: &str = "inbound";
const OUTBOUND: &str = "outbound";

/// The clusters of the sinks: of the gateway's tracer, of the sidecar's, of the plugin.
const OTLP: &str = "otlp";
const ZIPKIN: &str = "zipkin";
const COLLECTOR: &str = "collector";

/// `trace_context` beside the OpenTelemetry tracer.
const GATEWAY_FILTER: &str =
    r#"{"placement": "upstream", "tracer": "tracecontext", "inject": ["b3multi"]}"#;
/// `trace_context` beside the Zipkin tracer.
const SIDECAR_FILTER: &str =
    r#"{"placement": "upstream", "tracer": "b3multi", "inject": ["tracecontext"]}"#;

/// The configuration of `mesh_tracing`, key, value and what it does; in every proxy the same, as
/// each knows by its node what it is.
const STAGES: [(&str, &str, &str); 5] = [
    (
        "trace_context",
        "{}",
        "reads W3C and B3, and tells the next hop in both",
    ),
    (
        "sampling",
        r#"{"default": "always"}"#,
        "records every trace that begins here; by default one in a hundred",
    ),
    (
        "span_attributes",
        "{}",
        "puts x-user-id and x-tenant-id on the spans",
    ),
    ("access_log", "{}", "gives the span's ids to the access log"),
    (
        "report",
        r#"{"cluster": "collector"}"#,
        "opens the spans, and exports them over OTLP",
    ),
];
/// The stage that the native tracer has no need of: the ids of Envoy's own tracer are in the log.
const OF_THE_FILTER: &str = "access_log";
/// What the access log says with the filter.
const LINE: [(&str, &str); 6] = [
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(:PATH)%"),
    ("status", "%RESPONSE_CODE%"),
    ("user.id", "%FILTER_STATE(wasm.user.id:PLAIN)%"),
    ("trace_id", "%FILTER_STATE(wasm.trace_id:PLAIN)%"),
    ("span_id", "%FILTER_STATE(wasm.span_id:PLAIN)%"),
];
/// What it says with the native tracer.
const NATIVE_LINE: [(&str, &str); 6] = [
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(:PATH)%"),
    ("status", "%RESPONSE_CODE%"),
    ("user.id", "%REQ(X-USER-ID)%"),
    ("trace_id", "%TRACE_ID%"),
    ("span_id", "%SPAN_ID%"),
];

/// The stages of the tracer that these pieces are.
pub(crate) fn stages(
    pieces: &[Piece],
) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let is_native = pieces.contains(&Piece::Native);
    STAGES
        .into_iter()
        .filter(move |(key, ..)| !is_native || *key != OF_THE_FILTER)
}

/// The released filters that the acts use.
#[derive(Clone, Debug)]
pub(crate) struct Modules {
    pub(crate) trace_context: PathBuf,
    pub(crate) mesh_tracing: PathBuf,
    /// `None` where the Envoy is older than the native tracer.
    pub(crate) native: Option<PathBuf>,
}

impl Modules {
    /// The options with which Envoy finds the native tracer.
    fn options(&self) -> Options {
        let folder = self.native.as_deref().and_then(Path::parent);
        match folder.and_then(Path::to_str) {
            Some(folder) => Options::new().env("ENVOY_DYNAMIC_MODULES_SEARCH_PATH", folder),
            None => Options::new(),
        }
    }
}

/// Where the proxies send requests and spans.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) storefront: SocketAddr,
    pub(crate) payments: SocketAddr,
    pub(crate) otlp: SocketAddr,
    pub(crate) zipkin: SocketAddr,
}

/// Both proxies; they run from the first act to the last.
#[derive(Debug)]
pub(crate) struct Proxies {
    gateway: Envoy,
    sidecar: Envoy,
    recipe: Recipe,
}

impl Proxies {
    /// Starts them without any piece.
    pub(crate) fn start(
        binary: &EnvoyBinary,
        modules: Modules,
        addresses: Addresses,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let recipe = Recipe {
            modules,
            mutation: early_mutation(&TraceContextConfig::default(), Tracer::ZipkinB3)
                .map_err(|error| error.to_string())?
                .extension,
        };
        let storefront = || Cluster::http1(STOREFRONT.name, addresses.storefront);
        let collector = || Cluster::http1(COLLECTOR, addresses.otlp);
        let gateway = Envoy::start_with(
            binary,
            Bootstrap::new()
                .node("router~127.0.0.1~gateway.demo~demo", GATEWAY)
                .watched_listener(recipe.entrance(&[]))
                .cluster(storefront())
                .cluster(collector())
                .cluster(Cluster::http2(OTLP, addresses.otlp)),
            recipe.modules.options(),
        )?;
        let sidecar = Envoy::start_with(
            binary,
            Bootstrap::new()
                // The Zipkin tracer reports the node's cluster as its service.
                .node("sidecar~127.0.0.1~payments.demo~demo", SIDECAR)
                .watched_listener(recipe.inbound(&[]))
                .watched_listener(recipe.outbound(&[]))
                .cluster(storefront())
                .cluster(collector())
                .cluster(Cluster::http1(PAYMENTS.name, addresses.payments))
                .cluster(Cluster::http1(ZIPKIN, addresses.zipkin)),
            recipe.modules.options(),
        )?;
        Ok(Self {
            gateway,
            sidecar,
            recipe,
        })
    }

    /// Gives the running proxies these pieces and no others.
    pub(crate) fn configure(&self, pieces: &[Piece]) -> Result<(), Error> {
        self.gateway.update_listener(self.recipe.entrance(pieces))?;
        self.sidecar.update_listener(self.recipe.inbound(pieces))?;
        self.sidecar.update_listener(self.recipe.outbound(pieces))
    }

    /// What the running proxies have, as they tell it themselves: each listener as JSON.
    pub(crate) fn given(&self) -> Result<Vec<Given>, Error> {
        let mut given = Vec::new();
        for (proxy, envoy) in [(GATEWAY, &self.gateway), (SIDECAR, &self.sidecar)] {
            let dump = envoy.admin("GET", "/config_dump?resource=dynamic_listeners")?;
            let dump: Value = serde_json::from_str(&dump.text()).unwrap_or_default();
            for listener in dump["configs"].as_array().into_iter().flatten() {
                let active = &listener["active_state"]["listener"];
                if let (Some(name), Ok(text)) = (
                    listener["name"].as_str(),
                    serde_json::to_string_pretty(&active["filter_chains"]),
                ) {
                    given.push(Given {
                        name: format!("What the {proxy} was given: its listener {name}"),
                        text,
                    });
                }
            }
        }
        given.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(given)
    }

    /// A folder that is gone when the demo ends, however it ends.
    pub(crate) fn folder(&self) -> &Path {
        self.sidecar.folder()
    }

    /// Where the client calls.
    pub(crate) fn entrance(&self) -> Result<SocketAddr, Error> {
        self.gateway.address(ENTRANCE)
    }

    /// What the gateway logs while its own tracer is replaced.
    pub(crate) fn log(&self) -> AccessLog {
        self.gateway.access_log(ENTRANCE)
    }

    /// Where storefront calls payments.
    pub(crate) fn inbound(&self) -> Result<SocketAddr, Error> {
        self.sidecar.address(INBOUND)
    }

    /// Where payments calls storefront.
    pub(crate) fn outbound(&self) -> Result<SocketAddr, Error> {
        self.sidecar.address(OUTBOUND)
    }
}

/// How a listener is made.
#[derive(Debug)]
struct Recipe {
    modules: Modules,
    mutation: Value,
}

impl Recipe {
    fn entrance(&self, pieces: &[Piece]) -> Listener {
        let manager = manager(STOREFRONT.name, TO_STOREFRONT);
        let manager = match Piece::is_tracer(pieces) {
            // A span for each attempt is the filter's own choice at a gateway, and Envoy's here.
            true => self.traced(manager, pieces, true),
            false => {
                let own = Tracing::opentelemetry_grpc(OTLP, GATEWAY);
                manager.tracing(own.spawn_upstream_span(true))
            }
        };
        let manager = match pieces.contains(&Piece::GatewayFilter) {
            true => manager.upstream_filter(self.filter(GATEWAY_FILTER)),
            false => manager,
        };
        // An Istio gateway's listeners are outbound.
        Listener::http(ENTRANCE, manager).direction(TrafficDirection::Outbound)
    }

    fn inbound(&self, pieces: &[Piece]) -> Listener {
        let manager = manager(PAYMENTS.name, TO_PAYMENTS);
        Listener::http(INBOUND, self.sidecar(manager, pieces)).direction(TrafficDirection::Inbound)
    }

    fn outbound(&self, pieces: &[Piece]) -> Listener {
        let manager = manager(STOREFRONT.name, TO_STOREFRONT);
        Listener::http(OUTBOUND, self.sidecar(manager, pieces))
            .direction(TrafficDirection::Outbound)
    }

    /// Both directions of a sidecar are configured alike.
    fn sidecar(
        &self,
        mut manager: HttpConnectionManager,
        pieces: &[Piece],
    ) -> HttpConnectionManager {
        if Piece::is_tracer(pieces) {
            return self.traced(manager, pieces, false);
        }
        if pieces.contains(&Piece::SidecarMutation) {
            manager = manager.early_header_mutation(self.mutation.clone());
        }
        if pieces.contains(&Piece::SidecarFilter) {
            manager = manager.upstream_filter(self.filter(SIDECAR_FILTER));
        }
        manager.tracing(
            Tracing::zipkin(ZIPKIN)
                .trace_context_option(TraceContextOption::B3)
                .shared_span_context(false),
        )
    }

    fn filter(&self, configuration: &str) -> WasmFilter {
        WasmFilter::new("trace_context", &self.modules.trace_context).configuration(configuration)
    }

    /// The tracer, and a log that tells what it found.
    fn traced(
        &self,
        manager: HttpConnectionManager,
        pieces: &[Piece],
        attempts: bool,
    ) -> HttpConnectionManager {
        let stages: Vec<_> = stages(pieces)
            .map(|(key, value, _)| format!("{key:?}: {value}"))
            .collect();
        let configuration = format!("{{{}}}", stages.join(", "));
        let (manager, line) = match pieces.contains(&Piece::Native) {
            true => {
                let tracing = native::tracing(configuration).spawn_upstream_span(attempts);
                (
                    manager.tracing(tracing).filter(native::export()),
                    NATIVE_LINE,
                )
            }
            false => {
                let filter = WasmFilter::new("mesh_tracing", &self.modules.mesh_tracing);
                (manager.filter(filter.configuration(configuration)), LINE)
            }
        };
        let line = line.map(|(key, format)| (key.to_owned(), json!(format)));
        manager.access_log(Value::Object(line.into_iter().collect()))
    }
}

fn manager(cluster: &str, operation: &str) -> HttpConnectionManager {
    // Envoy would name its spans after the port, or "ingress".
    let named = json!({"decorator": {"operation": operation, "propagate": false}});
    HttpConnectionManager::new().route(Route::prefix("/").cluster(cluster).merge(named))
}
