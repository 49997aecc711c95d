//! Early header mutation: it makes the headers that the proxy's tracer reads from those that
//! arrived.

mod believed;
mod continued;
mod edge;
mod limit;
mod manager;
mod names;
mod reading;
mod repeated;

use meshtrace_config::ConfigError;
use meshtrace_propagation::{
    IncomingConfig, IncomingMode, Placement, Propagation, TraceContextConfig,
};
use names::Format;
use serde_json::{Value, json};

use crate::script::Script;

pub use limit::Limit;
pub use manager::ManagerSettings;

/// The proxy's tracer, by the headers that it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracer {
    /// `envoy.tracers.opentelemetry`: `traceparent` and `tracestate` of version 00.
    OpenTelemetry,
    /// `envoy.tracers.zipkin` with `USE_B3`, its default: `b3`, and `x-b3-*` where there is no
    /// `b3`.
    ZipkinB3,
    /// `envoy.tracers.zipkin` with `USE_B3_WITH_W3C_PROPAGATION`: B3, and `traceparent` where there
    /// is no B3.
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

/// A rendered early header mutation, with the settings and the limits that go with it.
#[derive(Clone, Debug)]
pub struct EarlyMutation {
    /// One entry of `early_header_mutation_extensions` (Envoy 1.36 to 1.40).
    pub extension: Value,
    /// The settings that the connection manager must have.
    pub manager: ManagerSettings,
    /// For each virtual host: the headers that must not reach the next hop. It is empty where no
    /// header is left to remove.
    pub virtual_host: Value,
    /// What the mutation does otherwise than the Wasm filter, or cannot do.
    pub limits: Vec<Limit>,
}

/// Renders the early header mutation with which `tracer` continues the contexts that `config`
/// reads.
///
/// The keys `extract`, `on_defer`, `b3_strict`, `on_repeated` and `incoming` of the configuration are used, and
/// `clear` where `incoming` is not `continue`. The other keys are about what the filter writes.
///
/// # Errors
///
/// When the filter refuses the configuration too, when it is for the upstream placement, or when it
/// has a condition (`incoming.when`) that Envoy's expressions cannot express: an IPv6 network whose
/// prefix has a zero group, or a header's name with signs beyond letters, digits, `-`, `_` and `.`.
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
    let edge = incoming.filter(|_| mode != IncomingMode::Continue);
    let (mut script, mut manager) = (Script::default(), ManagerSettings::default());
    // Whether anybody's context reaches the tracer.
    let mut continues = true;
    if let Some(IncomingConfig { when, .. }) = edge {
        let believed = believed::expression(when)?;
        continues = believed.is_some();
        edge::remove(config, mode, believed, &mut script);
        manager = ManagerSettings::beside_removals(when);
    }
    let mut virtual_host = json!({});
    if continues {
        // Behind the removals it finds the headers of believed callers alone.
        continued::write(config, tracer, &mut script);
        if tracer == Tracer::OpenTelemetry {
            virtual_host = json!({"request_headers_to_remove": [names::CLIENT_TRACE_ID]});
        }
    }
    Ok(EarlyMutation {
        extension: script.to_extension("meshtrace-trace-context"),
        manager,
        virtual_host,
        limits: Limit::of(config, mode, continues, tracer),
    })
}
