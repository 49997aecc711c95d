//! The filters. This is the only module that uses the filters' own crates.

use std::sync::OnceLock;

use meshtrace_pipeline::{
    AccessLogTrace, Composition, MeshTracing, Proxy, RouteSampling, SpanAttributes, TraceContext,
};
use meshtrace_plugin_config::{MeshTracingConfig, native};
use serde_json::Value;

/// A filter of meshtrace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Filter {
    /// `access_log_trace.wasm`
    AccessLogTrace,
    /// `mesh_tracing.wasm`
    MeshTracing,
    /// `route_sampling.wasm`
    RouteSampling,
    /// `span_attributes.wasm`
    SpanAttributes,
    /// `trace_context.wasm`
    TraceContext,
}

impl Filter {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::AccessLogTrace,
        Self::MeshTracing,
        Self::RouteSampling,
        Self::SpanAttributes,
        Self::TraceContext,
    ];

    /// Its name in modules and configuration paths.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AccessLogTrace => "access_log_trace",
            Self::MeshTracing => "mesh_tracing",
            Self::RouteSampling => "route_sampling",
            Self::SpanAttributes => "span_attributes",
            Self::TraceContext => "trace_context",
        }
    }

    /// The filter with this name, written with dashes or underscores.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = name.replace('-', "_").to_ascii_lowercase();
        Self::ALL.into_iter().find(|filter| filter.name() == name)
    }

    /// The filter whose name is part of a file's name, a URL or a plugin's name.
    pub(crate) fn within(text: &str) -> Option<Self> {
        let text = text.replace('-', "_").to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|filter| text.contains(filter.name()))
    }

    /// The stage of mesh_tracing with the same configuration.
    pub(crate) const fn stage(self) -> Option<&'static str> {
        match self {
            Self::AccessLogTrace => Some("access_log"),
            Self::MeshTracing => None,
            Self::RouteSampling => Some("sampling"),
            Self::SpanAttributes => Some("span_attributes"),
            Self::TraceContext => Some("trace_context"),
        }
    }

    /// Why the filter refuses this configuration: the path and the reason. The check is the code
    /// that runs in the proxy.
    pub(crate) fn refusal(self, json: &[u8]) -> Option<(String, String)> {
        let error = match self {
            Self::AccessLogTrace => refusal::<AccessLogTrace>(json),
            Self::MeshTracing => refusal::<MeshTracing>(json),
            Self::RouteSampling => refusal::<RouteSampling>(json),
            Self::SpanAttributes => refusal::<SpanAttributes>(json),
            Self::TraceContext => refusal::<TraceContext>(json),
        }?;
        Some(place_and_reason(&error, self.name()))
    }

    /// The JSON Schema of its configuration, and the definitions to which it refers.
    pub(crate) fn schema(self) -> Option<(&'static Value, &'static Value)> {
        static SCHEMA: OnceLock<Value> = OnceLock::new();
        let whole = SCHEMA.get_or_init(|| schemars::schema_for!(MeshTracingConfig).to_value());
        let own = match (self, self.stage()) {
            (Self::MeshTracing, _) => whole,
            (_, Some(stage)) => whole.get("properties")?.get(stage)?,
            (_, None) => return None,
        };
        Some((own, whole.get("$defs")?))
    }
}

/// Why the native tracer refuses a configuration that mesh_tracing.wasm accepts: the path and the
/// reason.
pub(crate) fn native_refusal(json: &[u8]) -> Option<(String, String)> {
    let config = meshtrace_plugin_config::mesh_tracing(json).ok()?;
    let error = native::refuse(&config).err()?;
    Some(place_and_reason(
        &error.to_string(),
        Filter::MeshTracing.name(),
    ))
}

/// The path and the reason of a refusal. The name of the filter is not part of the path.
pub(crate) fn place_and_reason(error: &str, filter: &str) -> (String, String) {
    let (path, reason) = error.split_once(": ").unwrap_or(("", error));
    let own = path.strip_prefix(filter).unwrap_or(path);
    let own = own.strip_prefix('.').unwrap_or(own);
    // The finding has the line and the column in the file.
    let reason = reason
        .rsplit_once(" at line ")
        .map_or(reason, |(text, _)| text);
    (own.to_owned(), reason.to_owned())
}

fn refusal<C: Composition>(json: &[u8]) -> Option<String> {
    // Another rule checks whether the keys are in the environment.
    C::from_json(json, &Proxy::with_environment(&|_| Some(b"set".to_vec())))
        .err()
        .map(|error| error.to_string())
}
