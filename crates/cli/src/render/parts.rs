//! The parts around one filter, without a version: what every Envoy from 1.36 to 1.40 takes.

#![expect(
    clippy::indexing_slicing,
    reason = "a key of a `serde_json::Value` is added where it is not there"
)]

use meshtrace_config::ConfigError;
use meshtrace_render::{Filter, Tracer, early_mutation, sampling_settings};
use serde_json::{Value, json};

use crate::output::{limits, yaml};

/// Prints what stands around `filter`; `None` where that depends on the version.
pub(super) fn around(
    filter: Filter,
    json: &[u8],
    tracer: Tracer,
) -> Option<Result<String, String>> {
    match filter {
        Filter::TraceContext => Some(trace_context(json, tracer)),
        Filter::RouteSampling => Some(route_sampling(json, tracer)),
        _ => None,
    }
}

fn trace_context(json: &[u8], tracer: Tracer) -> Result<String, String> {
    let sentence = |error: ConfigError| error.below("trace_context").to_string();
    let config = meshtrace_plugin_config::trace_context(json).map_err(sentence)?;
    let rendered = early_mutation(&config, tracer).map_err(sentence)?;
    let mut parts = rendered.manager.to_json();
    parts["early_header_mutation_extensions"] = json!([rendered.extension]);
    let mut text = yaml(
        &parts,
        &["For the HTTP connection manager. Mutations run in the order of the list: this one stands in front of \
           route_sampling's, which reads what this one writes."
            .to_owned()],
    )?;
    if rendered.virtual_host != json!({}) {
        let for_each = "For each virtual host.".to_owned();
        text.push_str(&format!(
            "---\n{}",
            yaml(&rendered.virtual_host, &[for_each])?
        ));
    }
    Ok(text + &limits(&rendered.limits))
}

fn route_sampling(json: &[u8], tracer: Tracer) -> Result<String, String> {
    let sentence = |error: ConfigError| error.below("route_sampling").to_string();
    let config = meshtrace_plugin_config::route_sampling(json).map_err(sentence)?;
    let rendered = sampling_settings(&config, tracer).map_err(sentence)?;
    let part = |value: &Value, what: &str| yaml(value, &[what.to_owned()]);
    let mut documents = vec![
        part(
            &rendered.manager,
            "For the HTTP connection manager. Mutations run in the order of the list: one of trace_context stands in \
             front of this one, which reads the parent that it writes.",
        )?,
        part(&rendered.virtual_host, "For each virtual host.")?,
    ];
    for route in &rendered.routes {
        let what = format!("For the route {:?}, which needs no filter.", route.route);
        documents.push(part(&json!({"tracing": route.tracing}), &what)?);
    }
    Ok(documents.join("---\n"))
}
