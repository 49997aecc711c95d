//! `meshtrace schema`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use meshtrace_access_log::AccessLogTraceConfig;
use meshtrace_attributes::SpanAttributesConfig;
use meshtrace_check::Filter;
use meshtrace_plugin_config::MeshTracingConfig;
use meshtrace_propagation::TraceContextConfig;
use meshtrace_sampling::SamplingConfig;
use schemars::{Schema, schema_for};
use serde_json::json;

use crate::filter;

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Command {
    /// Print the schema of this filter
    #[arg(value_parser = filter::parser())]
    filter: Option<Filter>,
    /// Write the schema of every filter into this folder, as <filter>.json
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    all: Option<PathBuf>,
}

impl Command {
    /// The text to print, or why there is none.
    pub(crate) fn run(&self) -> Result<String, String> {
        let mut printed = String::new();
        if let Some(filter) = self.filter {
            printed = text(filter)?;
        }
        if let Some(folder) = &self.all {
            for filter in Filter::ALL {
                write(filter, folder)?;
            }
        }
        Ok(printed)
    }
}

fn text(filter: Filter) -> Result<String, String> {
    let mut schema: Schema = match filter {
        Filter::AccessLogTrace => schema_for!(AccessLogTraceConfig),
        Filter::MeshTracing => schema_for!(MeshTracingConfig),
        Filter::RouteSampling => schema_for!(SamplingConfig),
        Filter::SpanAttributes => schema_for!(SpanAttributesConfig),
        Filter::TraceContext => schema_for!(TraceContextConfig),
    };
    schema.insert("title".to_owned(), json!(filter.name()));
    let text = serde_json::to_string_pretty(&schema);
    let text = text.map_err(|error| format!("the schema cannot be written: {error}"))?;
    Ok(format!("{text}\n"))
}

fn write(filter: Filter, folder: &Path) -> Result<(), String> {
    let file = folder.join(filter.name()).with_extension("json");
    let text = text(filter)?;
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&file, text))
        .map_err(|error| format!("{} cannot be written: {error}", file.display()))
}
