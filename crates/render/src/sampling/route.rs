//! Rules that a route's own `tracing` block does without the filter.

use meshtrace_sampling::{RuleConfig, SampleConfig, SamplingConfig};
use serde_json::{Value, json};

/// The `tracing` block of the route of that name.
///
/// It costs nothing. Unlike the filter it decides by `x-request-id` and not by the trace id, so that
/// two proxies do not keep the same part, and nothing is counted.
#[derive(Clone, Debug)]
pub struct RouteTracing {
    /// The route's name.
    pub route: String,
    /// Its `tracing` block.
    pub tracing: Value,
}

/// A block for each rule that asks for a route alone, and whose decision needs no state.
pub(super) fn tracing(config: &SamplingConfig) -> Vec<RouteTracing> {
    let mut known = Vec::new();
    let rules = config.rules.iter();
    rules
        .take_while(|rule| route_alone(rule).is_some())
        .filter_map(|rule| {
            let route = route_alone(rule)?;
            if known.contains(&route) {
                return None;
            }
            known.push(route);
            Some(RouteTracing {
                route: route.to_owned(),
                tracing: block(rule.sample)?,
            })
        })
        .collect()
}

/// A rule of another kind before it could decide first, so only the first ones count.
fn route_alone(rule: &RuleConfig) -> Option<&str> {
    let asked = &rule.matches;
    let alone = asked.path.is_none()
        && asked.methods.is_none()
        && asked.host.as_deref().is_none_or(|host| host == "*")
        && asked.headers.is_empty()
        && asked.cluster.is_none();
    asked.route.as_deref().filter(|_| alone)
}

fn block(sample: SampleConfig) -> Option<Value> {
    let million =
        |ratio: f64| json!({"numerator": (ratio * 1e6).round(), "denominator": "MILLION"});
    match sample {
        SampleConfig::Always => Some(json!({"random_sampling": {"numerator": 100}})),
        SampleConfig::Ratio(ratio) => Some(json!({"random_sampling": million(ratio)})),
        // From 1.39 this drops traces that came in, too, where the tracer is OpenTelemetry.
        SampleConfig::Never => Some(json!({
            "random_sampling": {"numerator": 0},
            "overall_sampling": {"numerator": 0},
        })),
        SampleConfig::PerSecond(_) | SampleConfig::Unchanged => None,
    }
}

impl RouteTracing {
    pub(super) fn to_patch(&self) -> Value {
        json!({
            "applyTo": "HTTP_ROUTE",
            "match": {"routeConfiguration": {"vhost": {"route": {"name": self.route}}}},
            "patch": {"operation": "MERGE", "value": {"tracing": self.tracing}},
        })
    }
}
