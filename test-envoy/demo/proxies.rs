//! The two Envoys, and what the filters' pieces add to their configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use envoy_test_harness::config::{
    Bootstrap, Cluster, HttpConnectionManager, Listener, Route, TraceContextOption, Tracing,
    TrafficDirection, WasmFilter,
};
use envoy_test_harness::{Envoy, EnvoyBinary, Error};
use meshtrace_render::{Tracer, early_mutation};
use serde_json::{Value, json};

use crate::story::{GATEWAY, PAYMENTS, Piece, SIDECAR, STOREFRONT, TO_PAYMENTS, TO_STOREFRONT};

const ENTRANCE: &str = "entrance";
const INBOUND: &str = "inbound";
const OUTBOUND: &str = "outbound";

/// The clusters of the sinks.
const OTLP: &str = "otlp";
const ZIPKIN: &str = "zipkin";

/// `trace_context` beside the OpenTelemetry tracer.
const GATEWAY_FILTER: &str =
    r#"{"placement": "upstream", "tracer": "tracecontext", "inject": ["b3multi"]}"#;
/// `trace_context` beside the Zipkin tracer.
const SIDECAR_FILTER: &str =
    r#"{"placement": "upstream", "tracer": "b3multi", "inject": ["tracecontext"]}"#;

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
        module: PathBuf,
        addresses: Addresses,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let recipe = Recipe {
            module,
            mutation: early_mutation(&serde_json::from_str("{}")?, Tracer::ZipkinB3)
                .map_err(|error| error.to_string())?
                .extension,
        };
        let storefront = || Cluster::http1(STOREFRONT.name, addresses.storefront);
        let gateway = Envoy::start(
            binary,
            Bootstrap::new()
                .node(GATEWAY, GATEWAY)
                .watched_listener(recipe.entrance(&[]))
                .cluster(storefront())
                .cluster(Cluster::http2(OTLP, addresses.otlp)),
        )?;
        let sidecar = Envoy::start(
            binary,
            Bootstrap::new()
                // The Zipkin tracer reports the node's cluster as its service.
                .node(SIDECAR, SIDECAR)
                .watched_listener(recipe.inbound(&[]))
                .watched_listener(recipe.outbound(&[]))
                .cluster(storefront())
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
    module: PathBuf,
    mutation: Value,
}

impl Recipe {
    fn entrance(&self, pieces: &[Piece]) -> Listener {
        let manager = manager(STOREFRONT.name, TO_STOREFRONT)
            .tracing(Tracing::opentelemetry_grpc(OTLP, GATEWAY).spawn_upstream_span(true));
        Listener::http(
            ENTRANCE,
            match pieces.contains(&Piece::GatewayFilter) {
                true => manager.upstream_filter(self.filter(GATEWAY_FILTER)),
                false => manager,
            },
        )
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
        WasmFilter::new("trace_context", &self.module).configuration(configuration)
    }
}

fn manager(cluster: &str, operation: &str) -> HttpConnectionManager {
    // Envoy would name its spans after the port, or "ingress".
    let named = json!({"decorator": {"operation": operation, "propagate": false}});
    HttpConnectionManager::new().route(Route::prefix("/").cluster(cluster).merge(named))
}
