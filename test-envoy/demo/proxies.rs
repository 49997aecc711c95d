//! The two Envoys, and what the filters' pieces add to their configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, TraceContextOption, Tracing,
    TrafficDirection, WasmFilter,
};
use envoy_test_harness::{AccessLog, Envoy, EnvoyBinary, Error};
use meshtrace_propagation::TraceContextConfig;
use meshtrace_render::{Tracer, early_mutation};
use serde_json::{Value, json};

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
pub(crate) const STAGES: [(&str, &str, &str); 5] = [
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
/// What the access log says with it.
const LINE: [(&str, &str); 6] = [
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(:PATH)%"),
    ("status", "%RESPONSE_CODE%"),
    ("user.id", "%FILTER_STATE(wasm.user.id:PLAIN)%"),
    ("trace_id", "%FILTER_STATE(wasm.trace_id:PLAIN)%"),
    ("span_id", "%FILTER_STATE(wasm.span_id:PLAIN)%"),
];

/// The released filters that the acts use.
#[derive(Clone, Debug)]
pub(crate) struct Modules {
    pub(crate) trace_context: PathBuf,
    pub(crate) mesh_tracing: PathBuf,
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
        let gateway = Envoy::start(
            binary,
            Bootstrap::new()
                .node("router~127.0.0.1~gateway.demo~demo", GATEWAY)
                .watched_listener(recipe.entrance(&[]))
                .cluster(storefront())
                .cluster(collector())
                .cluster(Cluster::http2(OTLP, addresses.otlp)),
        )?;
        let sidecar = Envoy::start(
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

    /// A folder that is gone when the demo ends, however it ends.
    pub(crate) fn folder(&self) -> &Path {
        self.sidecar.folder()
    }

    /// Where the client calls.
    pub(crate) fn entrance(&self) -> Result<SocketAddr, Error> {
        self.gateway.address(ENTRANCE)
    }

    /// What the gateway logs while the plugin is its tracer.
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
        let manager = match pieces.contains(&Piece::Tracer) {
            true => self.traced(manager),
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
        if pieces.contains(&Piece::Tracer) {
            return self.traced(manager);
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

    /// The plugin, and a log that tells what it found.
    fn traced(&self, manager: HttpConnectionManager) -> HttpConnectionManager {
        let stages = STAGES.map(|(key, value, _)| format!("{key:?}: {value}"));
        let configuration = format!("{{{}}}", stages.join(", "));
        let line = LINE.map(|(key, format)| (key.to_owned(), json!(format)));
        manager
            .filter(
                WasmFilter::new("mesh_tracing", &self.modules.mesh_tracing)
                    .configuration(configuration),
            )
            .access_log(Value::Object(line.into_iter().collect()))
    }
}

fn manager(cluster: &str, operation: &str) -> HttpConnectionManager {
    // Envoy would name its spans after the port, or "ingress".
    let named = json!({"decorator": {"operation": operation, "propagate": false}});
    HttpConnectionManager::new().route(Route::prefix("/").cluster(cluster).merge(named))
}
