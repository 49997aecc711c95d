//! The configuration of sampling as it is written.

use core::fmt;

use meshtrace_config::RequestHeaders;
use meshtrace_propagation::Placement;
use meshtrace_propagation::format::Format;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};

/// `route_sampling.wasm`'s configuration; every key is optional.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct SamplingConfig {
    /// What to do with which requests; the first rule that fits decides.
    pub rules: Vec<RuleConfig>,
    /// What to do with the others. Default `unchanged`.
    pub default: SampleConfig,
    /// What becomes of a decision that comes in. Default `respect`.
    pub parent: ParentPolicy,
    /// A header by which operators keep a request whatever the rules say.
    pub force: Option<ForceConfig>,
    /// Downstream: the header that makes this proxy's tracer keep a trace that it starts; `null`
    /// for none. Default `x-envoy-force-trace`. Upstream it is removed.
    #[serde(deserialize_with = "present")]
    pub request_header: Option<Option<String>>,
    /// Where the filter stands. Default `downstream`.
    pub placement: Placement,
    /// Downstream: the formats that this proxy's tracer reads, in order. Default `tracecontext`,
    /// `b3`, `b3multi`.
    pub extract: Option<Vec<Format>>,
    /// Upstream, required there: the one format that this proxy's tracer writes.
    pub tracer: Option<Format>,
    /// Downstream: the helper header that tells the trace id of the span that the tracer started.
    pub ids: IdsConfig,
    /// How the request's headers are changed: `edit`, or `filter_state` with what `meshtrace render
    /// request-headers` prints. Default `edit`.
    pub request_headers: Option<RequestHeaders>,
}

/// One rule.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// In the counters' names: letters, digits, `_` and `-`. Default its place in the list.
    #[serde(default)]
    pub name: Option<String>,
    /// The requests; all when absent.
    #[serde(default, rename = "match")]
    pub matches: MatchConfig,
    /// What to do with them.
    pub sample: SampleConfig,
}

/// The requests of a rule; all that is set must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct MatchConfig {
    /// The path without its query, case-sensitive.
    pub path: Option<PathConfig>,
    /// One of these methods.
    pub methods: Option<Vec<String>>,
    /// The host without its port, in any case; `*.example.com` for every name below a domain.
    pub host: Option<String>,
    /// All of these headers.
    pub headers: Vec<HeaderConfig>,
    /// The name of Envoy's route.
    pub route: Option<String>,
    /// Envoy's cluster.
    pub cluster: Option<String>,
}

/// What is asked of a path.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PathConfig {
    /// It is this.
    Exact(String),
    /// It is this, or goes on after it with a slash.
    Prefix(String),
    /// It has these segments, where `{name}` and `*` stand for any one that is not empty, and `**` at
    /// the end for any number of them.
    Template(String),
    /// The whole of it fits this regular expression.
    Regex(String),
}

/// What is asked of one header; the first line of that name counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderConfig {
    /// In any case.
    pub name: String,
    /// It has this value.
    pub exact: Option<String>,
    /// Its value begins with this.
    pub prefix: Option<String>,
    /// `true`: it is there.
    pub present: Option<bool>,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum SampleConfig {
    /// Keep it.
    Always,
    /// Drop it.
    Never,
    /// Leave the decision as it is.
    #[default]
    Unchanged,
    /// Keep this part of all traces, from 0 to 1.
    Ratio(f64),
    /// Keep at most so many a second.
    PerSecond(f64),
}

/// What becomes of a decision that comes in.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ParentPolicy {
    /// It stands.
    #[default]
    Respect,
    /// The rules decide.
    Ignore,
    /// A positive one stands; the rules decide about the others.
    RespectSampled,
    /// A negative one stands; the rules decide about the others.
    RespectDropped,
}

impl ParentPolicy {
    /// Whether a decision that comes in stands.
    #[must_use]
    pub fn keeps(self, sampled: bool) -> bool {
        match self {
            Self::Respect => true,
            Self::Ignore => false,
            Self::RespectSampled => sampled,
            Self::RespectDropped => !sampled,
        }
    }
}

/// A header by which operators keep a request.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ForceConfig {
    /// Its name. It is removed from every request.
    pub header: String,
    /// The variable of the VM's environment that holds the value.
    pub value_env: String,
}

/// The helper header.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct IdsConfig {
    /// Its name. It is removed from the request.
    pub trace_id_header: Option<String>,
}

/// Tells `null` from a key that is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for SampleConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Rate {
            Ratio(f64),
            PerSecond(f64),
        }

        struct SampleVisitor;

        impl<'de> Visitor<'de> for SampleVisitor {
            type Value = SampleConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "\"always\", \"never\", \"unchanged\", {\"ratio\": 0.1} or {\"per_second\": 5}",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<SampleConfig, E> {
                match text {
                    "always" => Ok(SampleConfig::Always),
                    "never" => Ok(SampleConfig::Never),
                    "unchanged" => Ok(SampleConfig::Unchanged),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SampleConfig, A::Error> {
                Ok(match Rate::deserialize(MapAccessDeserializer::new(map))? {
                    Rate::Ratio(ratio) => SampleConfig::Ratio(ratio),
                    Rate::PerSecond(rate) => SampleConfig::PerSecond(rate),
                })
            }
        }

        deserializer.deserialize_any(SampleVisitor)
    }
}
