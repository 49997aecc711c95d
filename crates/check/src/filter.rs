//! The filters. This is the only module that uses the filters' own crates.

use std::sync::OnceLock;

use meshtrace_config::{ConfigError, Draft, Mistake};
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

    /// The filter with this name, written with dashes or underscores, or as the name of its module.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = name.replace('-', "_").to_ascii_lowercase();
        let name = name.strip_suffix(".wasm").unwrap_or(&name);
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

    /// Every reason why the filter refuses this configuration. The check is the code that runs in
    /// the proxy.
    pub(crate) fn refusals(self, json: &[u8]) -> Vec<Refusal> {
        match self {
            Self::AccessLogTrace => refusals::<AccessLogTrace>(json),
            Self::MeshTracing => refusals::<MeshTracing>(json),
            Self::RouteSampling => refusals::<RouteSampling>(json),
            Self::SpanAttributes => refusals::<SpanAttributes>(json),
            Self::TraceContext => refusals::<TraceContext>(json),
        }
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

/// One reason why a filter refuses a configuration.
pub(crate) struct Refusal {
    /// The path, relative to the configuration's top.
    pub(crate) path: String,
    pub(crate) reason: String,
    /// Whether it was found while the text was read: the schema shows most of these too.
    pub(crate) is_of_reading: bool,
}

fn refusals<C: Composition>(json: &[u8]) -> Vec<Refusal> {
    // Another rule checks whether the keys are in the environment.
    let compiled = C::from_json(json, &Proxy::with_environment(&|_| Some(b"set".to_vec())));
    let Err(error) = compiled else {
        return Vec::new();
    };
    listed(&error, C::NAME)
}

/// Why the native tracer refuses a configuration that mesh_tracing.wasm accepts.
pub(crate) fn native_refusals(json: &[u8]) -> Vec<Refusal> {
    let draft = Draft::<MeshTracingConfig>::read(json);
    match draft.compile(native::refuse) {
        Ok(()) => Vec::new(),
        Err(error) => listed(&error, Filter::MeshTracing.name()),
    }
}

/// The refusals of an error. The name of the filter is not part of their paths.
pub(crate) fn listed(error: &ConfigError, filter: &str) -> Vec<Refusal> {
    let refusal = |mistake: &Mistake| {
        let path = mistake.path();
        let own = path.strip_prefix(filter).unwrap_or(path);
        Refusal {
            path: own.strip_prefix('.').unwrap_or(own).to_owned(),
            reason: mistake.message(),
            is_of_reading: mistake.position().is_some(),
        }
    };
    error.mistakes().iter().map(refusal).collect()
}
