//! Rules that a route's own `tracing` block can apply without the filter.

use meshtrace_sampling::{MatchConfig, RuleConfig, SampleConfig, SamplingConfig};
use serde_json::{Value, json};

/// The `tracing` block of the route with this name.
///
/// It costs nothing, and needs no filter. It keeps what the filter's rule keeps, so the block and
/// the rule may be used together.
#[derive(Clone, Debug)]
pub struct RouteTracing {
    /// The route's name.
    pub route: String,
    /// Its `tracing` block.
    pub tracing: Value,
}

/// A block for each rule that has a condition on the route alone and keeps all or none of its
/// requests. A ratio would keep other traces than the filter: Envoy decides by `x-request-id`.
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

/// A rule of another kind could decide first, so only the rules before the first such rule count.
fn route_alone(rule: &RuleConfig) -> Option<&str> {
    // Every field is named, so that the compiler reports a condition that is missing here.
    let MatchConfig {
        path,
        methods,
        host,
        headers,
        route,
        cluster,
    } = &rule.matches;
    let alone = path.is_none()
        && methods.is_none()
        && host.as_deref().is_none_or(|host| host == "*")
        && headers.is_empty()
        && cluster.is_none();
    route.as_deref().filter(|_| alone)
}

fn block(sample: SampleConfig) -> Option<Value> {
    let random = |percent: u8| Some(json!({"random_sampling": {"numerator": percent}}));
    match sample {
        SampleConfig::Always => random(100),
        // `overall_sampling` is not set: from Envoy 1.39 on it would also drop traces that came in.
        SampleConfig::Never => random(0),
        SampleConfig::Ratio(_) | SampleConfig::PerSecond(_) | SampleConfig::Unchanged => None,
    }
}

impl RouteTracing {
    pub(crate) fn to_patch(&self) -> Value {
        json!({
            "applyTo": "HTTP_ROUTE",
            "match": {"routeConfiguration": {"vhost": {"route": {"name": self.route}}}},
            "patch": {"operation": "MERGE", "value": {"tracing": self.tracing}},
        })
    }
}
