//! `meshtrace schema`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use meshtrace_access_log::AccessLogTraceConfig;
use meshtrace_attributes::SpanAttributesConfig;
use meshtrace_plugin_config::MeshTracingConfig;
use meshtrace_propagation::TraceContextConfig;
use meshtrace_sampling::SamplingConfig;
use schemars::{Schema, schema_for};
use serde_json::json;

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Command {
    /// Print the schema of this filter
    filter: Option<Filter>,
    /// Write the schema of every filter into this folder, as <filter>.json
    #[arg(long, value_name = "FOLDER")]
    all: Option<PathBuf>,
}

/// A filter with a configuration.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Filter {
    /// access_log_trace.wasm
    #[value(alias = "access_log_trace")]
    AccessLogTrace,
    /// mesh_tracing.wasm
    #[value(alias = "mesh_tracing")]
    MeshTracing,
    /// route_sampling.wasm
    #[value(alias = "route_sampling")]
    RouteSampling,
    /// span_attributes.wasm
    #[value(alias = "span_attributes")]
    SpanAttributes,
    /// trace_context.wasm
    #[value(alias = "trace_context")]
    TraceContext,
}

impl Command {
    /// The text to print, or why there is none.
    pub(crate) fn run(&self) -> Result<String, String> {
        let mut printed = String::new();
        if let Some(filter) = self.filter {
            printed = filter.text()?;
        }
        if let Some(folder) = &self.all {
            for filter in Filter::value_variants() {
                filter.write(folder)?;
            }
        }
        Ok(printed)
    }
}

impl Filter {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AccessLogTrace => "access_log_trace",
            Self::MeshTracing => "mesh_tracing",
            Self::RouteSampling => "route_sampling",
            Self::SpanAttributes => "span_attributes",
            Self::TraceContext => "trace_context",
        }
    }

    fn text(self) -> Result<String, String> {
        let mut schema: Schema = match self {
            Self::AccessLogTrace => schema_for!(AccessLogTraceConfig),
            Self::MeshTracing => schema_for!(MeshTracingConfig),
            Self::RouteSampling => schema_for!(SamplingConfig),
            Self::SpanAttributes => schema_for!(SpanAttributesConfig),
            Self::TraceContext => schema_for!(TraceContextConfig),
        };
        schema.insert("title".to_owned(), json!(self.name()));
        let text = serde_json::to_string_pretty(&schema);
        let text = text.map_err(|error| format!("the schema cannot be written: {error}"))?;
        Ok(format!("{text}\n"))
    }

    fn write(self, folder: &Path) -> Result<(), String> {
        let file = folder.join(self.name()).with_extension("json");
        let text = self.text()?;
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&file, text))
            .map_err(|error| format!("{} cannot be written: {error}", file.display()))
    }
}
