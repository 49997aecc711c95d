//! The settings around `route_sampling` that make the proxy's own tracer follow its decision.

mod early;
mod route;

use meshtrace_config::ConfigError;
use meshtrace_propagation::Placement;
use meshtrace_sampling::{RuleSampler, SamplingConfig};
use serde_json::{Value, json};

use crate::{Tracer, priority};

pub use route::RouteTracing;

/// Envoy configuration that goes with the filter (Envoy 1.36 to 1.40).
#[derive(Clone, Debug)]
pub struct SamplingSettings {
    /// For the HTTP connection manager: only what the filter or a parent decides is sampled.
    pub manager: Value,
    /// For each virtual host: the headers that must not reach the next hop.
    pub virtual_host: Value,
    /// The rules that a route's own `tracing` block can apply without the filter.
    pub routes: Vec<RouteTracing>,
}

/// Renders what makes `tracer` follow a downstream `route_sampling` of this `config`.
///
/// # Errors
/// When the filter refuses the configuration too, when it is for the upstream placement, or when it
/// needs, with a `parent` other than `respect`, what an early header mutation cannot do: see
/// `parent` in `docs/route_sampling.md`.
pub fn sampling_settings(
    config: &SamplingConfig,
    tracer: Tracer,
) -> Result<SamplingSettings, ConfigError> {
    let sampling = RuleSampler::new(config, &|_| None)?;
    if config.placement == Placement::Upstream {
        return Err(ConfigError::new(
            "placement",
            "behind the tracer there is nothing left to set; expected \"downstream\"",
        ));
    }
    let early = early::script(config, tracer)?;
    let mut removed = vec![json!(early::CLIENT_TRACE_ID)];
    if let Some(header) = sampling.request_header() {
        removed.push(json!(String::from_utf8_lossy(header)));
    }
    Ok(SamplingSettings {
        manager: json!({
            "tracing": {
                "client_sampling": {"value": 100.0},
                "random_sampling": {"value": 0.0},
                "overall_sampling": {"value": 100.0},
            },
            // Without this, the filter's decision marks `x-request-id`, and every next hop obeys
            // that mark.
            "request_id_extension": {"typed_config": {
                "@type": concat!(
                    "type.googleapis.com/envoy.extensions.request_id.uuid.v3.",
                    "UuidRequestIdConfig"
                ),
                "pack_trace_reason": false,
            }},
            "early_header_mutation_extensions": [early::extension(&early)],
        }),
        virtual_host: json!({"request_headers_to_remove": removed}),
        routes: route::tracing(config),
    })
}

impl SamplingSettings {
    /// The same settings as an Istio EnvoyFilter for the proxies with this label. It has no
    /// sampling percentages: a merge cannot set a number to 0, so a Telemetry resource must set
    /// them.
    #[must_use]
    pub fn to_envoy_filter(&self, name: &str, label: (&str, &str)) -> Value {
        let mut manager = self.manager.clone();
        if let Some(manager) = manager.as_object_mut() {
            manager.remove("tracing");
            manager.insert("@type".to_owned(), json!(MANAGER_TYPE));
        }
        let mut patches = vec![
            json!({
                "applyTo": "NETWORK_FILTER",
                "match": {"context": "ANY", "listener": {"filterChain": {"filter": {
                    "name": MANAGER,
                }}}},
                "patch": {"operation": "MERGE", "value": {"name": MANAGER, "typed_config": manager}},
            }),
            json!({
                "applyTo": "VIRTUAL_HOST",
                "match": {"context": "ANY"},
                "patch": {"operation": "MERGE", "value": self.virtual_host},
            }),
        ];
        patches.extend(self.routes.iter().map(RouteTracing::to_patch));
        json!({
            "apiVersion": "networking.istio.io/v1alpha3",
            "kind": "EnvoyFilter",
            "metadata": {"name": name},
            "spec": {
                "priority": priority::SAMPLING,
                "workloadSelector": {"labels": {label.0: label.1}},
                "configPatches": patches,
            },
        })
    }
}

const MANAGER: &str = "envoy.filters.network.http_connection_manager";
const MANAGER_TYPE: &str = concat!(
    "type.googleapis.com/envoy.extensions.filters.network.",
    "http_connection_manager.v3.HttpConnectionManager"
);
