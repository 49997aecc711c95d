//! The counters of a running Envoy.

use std::collections::BTreeMap;

use meshtrace_pipeline::Stage;
use serde_json::Value;

/// The prefixes that Envoy adds to the names of counters of a filter or of the native tracer.
const PREFIXES: [&str; 2] = ["wasmcustom.meshtrace.", "dynamicmodulescustom.meshtrace."];

/// The counters and gauges of an Envoy at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    all: BTreeMap<String, u64>,
    /// The counters of meshtrace, without Envoy's prefix and without `meshtrace.`.
    own: BTreeMap<String, u64>,
}

impl Stats {
    /// Reads the answer of `/stats?format=json`; `None` where it is another document.
    #[must_use]
    pub fn read(json: &[u8]) -> Option<Self> {
        let answer: Value = serde_json::from_slice(json).ok()?;
        let mut stats = Self::default();
        for stat in answer.get("stats")?.as_array()? {
            // Histograms have no value, and text readouts are not numbers.
            let name = stat.get("name").and_then(Value::as_str);
            if let (Some(name), Some(value)) = (name, stat.get("value").and_then(Value::as_u64)) {
                stats.all.insert(name.to_owned(), value);
                if let Some(own) = own_name(name) {
                    *stats.own.entry(own.to_owned()).or_default() += value;
                }
            }
        }
        Some(stats)
    }

    /// The value under Envoy's own name.
    pub(super) fn envoy(&self, name: &str) -> Option<u64> {
        self.all.get(name).copied()
    }

    /// All of Envoy's names and values.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, u64)> {
        self.all.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// The value of a counter of meshtrace, by its name without `meshtrace.`.
    pub(super) fn own(&self, name: &str) -> Option<u64> {
        self.own.get(name).copied()
    }

    /// The names and values of the counters of meshtrace.
    pub(super) fn owned(&self) -> impl Iterator<Item = (&str, u64)> {
        self.own.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// Whether the stage has counters. It has them as soon as a configuration is in force.
    pub(super) fn has(&self, stage: Stage) -> bool {
        let names = stage.metrics().iter();
        names
            .filter_map(|name| name.strip_prefix("meshtrace."))
            .any(|name| self.own.contains_key(name))
    }
}

/// The name of a counter of meshtrace without what Envoy puts in front of it. Envoy 1.36 and 1.37 put the
/// cluster in front of it too, where a cluster's own `http_filters` load the module first.
fn own_name(name: &str) -> Option<&str> {
    PREFIXES.iter().find_map(|prefix| {
        let (scope, own) = name.split_once(prefix)?;
        (scope.is_empty() || scope.starts_with("cluster.")).then_some(own)
    })
}

/// What a counter of meshtrace counts.
pub(super) fn meaning(name: &str) -> String {
    for stage in Stage::ALL {
        let mut pairs = stage.metrics().iter().zip(stage.descriptions());
        let found = pairs.find(|(metric, _)| metric.strip_prefix("meshtrace.") == Some(name));
        if let Some((_, meaning)) = found {
            return meaning.trim().replace("  ", " ");
        }
    }
    let what = |decision: &str| match decision {
        "sampled" => "kept",
        "dropped" => "dropped",
        _ => "left alone",
    };
    if let Some(rule) = name.strip_prefix("route_sampling.rule.")
        && let Some((rule, decision)) = rule.rsplit_once('.')
    {
        return format!("The request was {} by the rule \"{rule}\".", what(decision));
    }
    if let Some(decision) = name.strip_prefix("route_sampling.default.") {
        return format!("The request fitted no rule and was {}.", what(decision));
    }
    if let Some(format) = name.strip_prefix("trace_context.only.")
        && let Some((format, direction)) = format.split_once('.')
    {
        return format!("A context arrived in {format} and in no other format ({direction}).");
    }
    match name {
        "host_errors" => "Envoy refused a call of the filter.".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::own_name;

    #[test]
    fn a_counter_is_known_whatever_envoy_puts_in_front_of_it() {
        for (name, expected) in [
            ("wasmcustom.meshtrace.host_errors", Some("host_errors")),
            ("dynamicmodulescustom.meshtrace.panics", Some("panics")),
            (
                "cluster.a.b.wasmcustom.meshtrace.host_errors",
                Some("host_errors"),
            ),
            ("http.ingress.rq_total", None),
            ("http.wasmcustom.meshtrace.host_errors", None),
        ] {
            assert_eq!(own_name(name), expected, "{name}");
        }
    }
}
