//! Early header mutation: what the proxy's tracer reads, made from what arrived.

mod believed;
mod continued;
mod edge;
mod limit;
mod manager;
mod names;
mod reading;

use meshtrace_config::ConfigError;
use meshtrace_propagation::{
    IncomingConfig, IncomingMode, Placement, Propagation, TraceContextConfig,
};
use names::Format;
use serde_json::{Value, json};

pub use limit::Limit;
pub use manager::ManagerSettings;

/// What the proxy's tracer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracer {
    /// `envoy.tracers.opentelemetry`: `traceparent` and `tracestate` of version 00.
    OpenTelemetry,
    /// `envoy.tracers.zipkin` with `USE_B3`, its default: `b3`, else `x-b3-*`.
    ZipkinB3,
    /// `envoy.tracers.zipkin` with `USE_B3_WITH_W3C_PROPAGATION`: B3, else `traceparent`.
    ZipkinB3WithW3c,
}

impl Tracer {
    fn reads(self, format: Format) -> bool {
        match self {
            Self::OpenTelemetry => format == Format::Tracecontext,
            Self::ZipkinB3 => format != Format::Tracecontext,
            Self::ZipkinB3WithW3c => true,
        }
    }
}

/// A rendered early header mutation, and what has to be said with it.
#[derive(Clone, Debug)]
pub struct EarlyMutation {
    /// One entry of `early_header_mutation_extensions` (Envoy 1.36 to 1.40).
    pub extension: Value,
    /// What the connection manager must have beside it.
    pub manager: ManagerSettings,
    /// For each virtual host: what must not reach the next hop. Empty where nothing is left to
    /// remove.
    pub virtual_host: Value,
    /// What the mutation does otherwise than the Wasm filter, or cannot do.
    pub limits: Vec<Limit>,
}

/// Renders the early header mutation that lets `tracer` continue what `config` says to read.
///
/// Of the configuration, `extract`, `on_defer`, `b3_strict` and `incoming` have a part in it, and
/// `clear` where `incoming` is not `continue`; the other keys are about what the filter writes.
///
/// # Errors
/// When the configuration is refused by the filter too, is for the upstream placement, or has a
/// condition (`incoming.when`) that Envoy's expressions cannot tell: an IPv6 network whose prefix
/// has a zero group, or a header's name with signs beyond letters, digits, `-`, `_` and `.`.
pub fn early_mutation(
    config: &TraceContextConfig,
    tracer: Tracer,
) -> Result<EarlyMutation, ConfigError> {
    Propagation::new(config)?;
    if config.placement == Placement::Upstream {
        return Err(ConfigError::new(
            "placement",
            "an early header mutation is of the listener; expected \"downstream\"",
        ));
    }

    let incoming = config.incoming.as_ref();
    let mode = incoming.map_or(IncomingMode::Continue, |incoming| incoming.mode);
    let (script, manager) = match incoming.filter(|_| mode != IncomingMode::Continue) {
        None => (
            continued::script(config, tracer),
            ManagerSettings::default(),
        ),
        Some(IncomingConfig { when, .. }) => (
            edge::script(config, mode, when)?,
            ManagerSettings::beside_removals(when),
        ),
    };
    let virtual_host = match (mode, tracer) {
        (IncomingMode::Continue, Tracer::OpenTelemetry) => {
            json!({"request_headers_to_remove": [names::CLIENT_TRACE_ID]})
        }
        _ => json!({}),
    };
    Ok(EarlyMutation {
        extension: script.to_extension("meshtrace-trace-context"),
        manager,
        virtual_host,
        limits: Limit::of(config, mode, tracer),
    })
}
