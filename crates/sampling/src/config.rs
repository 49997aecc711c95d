//! The configuration of sampling: the JSON text, checked and made ready to compile.

use core::fmt;

use meshtrace_config::{ConfigError, RequestHeaders};
use meshtrace_headers::{PathTemplate, Segment, is_token, read_name, written_name};
use meshtrace_propagation::Placement;
use meshtrace_propagation::format::Format;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};

use crate::bucket::{self, Bucket};
use crate::matcher::{
    Conditions, HeaderPattern, HostPattern, MAX_RULES, PathPattern, ValuePattern,
};
use crate::probability::Threshold;

/// Most bytes of a rule's name: it becomes part of a counter's.
const MAX_NAME: usize = 64;
/// What Envoy obeys (Envoy, "x-envoy-force-trace").
const FORCE_TRACE: &str = "x-envoy-force-trace";

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

impl RuleConfig {
    pub(crate) fn template(&self) -> Option<Box<str>> {
        match &self.matches.path {
            Some(PathConfig::Template(template)) => Some(template.as_str().into()),
            _ => None,
        }
    }
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

/// What a rule does, ready to be done.
#[derive(Clone, Debug)]
pub(crate) enum Sample {
    Always,
    Never,
    Unchanged,
    Ratio(Threshold),
    PerSecond(Bucket),
}

impl SampleConfig {
    /// `path` is where it stands in the configuration, `rule` how its rule is counted.
    #[inline(never)]
    pub(crate) fn compile(self, path: &str, rule: &str) -> Result<Sample, ConfigError> {
        match self {
            Self::Always => Ok(Sample::Always),
            Self::Never => Ok(Sample::Never),
            Self::Unchanged => Ok(Sample::Unchanged),
            Self::Ratio(0.0) => Ok(Sample::Never),
            Self::Ratio(ratio) => {
                Threshold::from_ratio(ratio)
                    .map(Sample::Ratio)
                    .ok_or_else(|| {
                        let allowed = match ratio > 1.0 {
                            true => {
                                "a part of all traces, 0 < ratio <= 1 (one in a hundred is 0.01)"
                            }
                            false => "0, or 2^-56 <= ratio <= 1",
                        };
                        ConfigError::new(
                            format!("{path}.ratio"),
                            format!("impossible value: {ratio}, expected {allowed}"),
                        )
                    })
            }
            Self::PerSecond(0.0) => Ok(Sample::Never),
            Self::PerSecond(rate) => Bucket::per_second(rate, rule)
                .map(Sample::PerSecond)
                .ok_or_else(|| {
                    let (least, most) = (bucket::MIN_RATE, bucket::MAX_RATE);
                    ConfigError::new(
                        format!("{path}.per_second"),
                        format!("impossible value: {rate}, expected 0, or from {least} to {most}"),
                    )
                }),
        }
    }
}

impl SamplingConfig {
    pub(crate) fn request_header(&self) -> Result<Option<Box<[u8]>>, ConfigError> {
        match &self.request_header {
            None => Ok(Some(FORCE_TRACE.as_bytes().into())),
            Some(None) => Ok(None),
            Some(Some(name)) => header_name("request_header", name).map(Some),
        }
    }

    /// The name of the helper header, in lower case.
    ///
    /// # Errors
    /// When it is none.
    pub fn trace_id_header(&self) -> Result<Option<Box<[u8]>>, ConfigError> {
        let name = self.ids.trace_id_header.as_deref();
        name.map(|name| header_name("ids.trace_id_header", name))
            .transpose()
    }

    #[inline(never)]
    pub(crate) fn conditions(&self) -> Result<Vec<Conditions>, ConfigError> {
        if self.rules.len() > MAX_RULES {
            return Err(ConfigError::new(
                format!("rules[{MAX_RULES}]"),
                format!("too many rules; expected at most {MAX_RULES}"),
            ));
        }
        let rules = self.rules.iter().enumerate();
        rules
            .map(|(i, rule)| {
                rule.matches
                    .compile()
                    .map_err(|error| error.below(&format!("rules[{i}].match")))
            })
            .collect()
    }

    /// The rules' names, each its own.
    #[inline(never)]
    pub(crate) fn names(&self) -> Result<Vec<String>, ConfigError> {
        let mut names: Vec<String> = Vec::new();
        let mut known = std::collections::BTreeSet::new();
        for (i, rule) in self.rules.iter().enumerate() {
            let path = || format!("rules[{i}].name");
            let name = rule.name.clone().unwrap_or_else(|| i.to_string());
            let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(is_allowed) {
                return Err(ConfigError::new(
                    path(),
                    format!(
                        "invalid value: string {name:?}, expected 1 to {MAX_NAME} letters, digits, \
                         `_` and `-`"
                    ),
                ));
            }
            if !known.insert(name.clone()) {
                return Err(ConfigError::new(
                    path(),
                    format!("{name:?} is another rule's name; expected each once"),
                ));
            }
            names.push(name);
        }
        Ok(names)
    }
}

impl MatchConfig {
    #[inline(never)]
    fn compile(&self) -> Result<Conditions, ConfigError> {
        let mut conditions = Conditions::default();
        match &self.path {
            None => {}
            Some(PathConfig::Exact(path)) => {
                let path = literal_path("path.exact", path)?;
                conditions.path = Some(PathPattern::Exact(path));
            }
            Some(PathConfig::Prefix(path)) => {
                let path = literal_path("path.prefix", path)?;
                conditions.path = Some(PathPattern::Prefix(path));
            }
            Some(PathConfig::Template(template)) => {
                conditions.path = Some(template_pattern(template)?);
            }
            Some(PathConfig::Regex(regex)) => conditions.regex = Some(regex.clone()),
        }
        if let Some(methods) = &self.methods {
            conditions.methods = compile_methods(methods)?;
        }
        conditions.host = match self.host.as_deref() {
            None | Some("*") => None,
            Some(host) => Some(host_pattern(host)?),
        };
        for (i, header) in self.headers.iter().enumerate() {
            let pattern = header.compile();
            let pattern = pattern.map_err(|error| error.below(&format!("headers[{i}]")))?;
            conditions.headers.push(pattern);
        }
        let name = |key: &str, name: &Option<String>| match name.as_deref() {
            Some("") => Err(ConfigError::new(key, "empty; expected a name")),
            name => Ok(name.map(|name| name.as_bytes().into())),
        };
        conditions.route = name("route", &self.route)?;
        conditions.cluster = name("cluster", &self.cluster)?;
        Ok(conditions)
    }
}

fn literal_path(key: &str, path: &str) -> Result<Box<[u8]>, ConfigError> {
    if path.starts_with('/') && !path.contains(['?', '#']) {
        return Ok(path.as_bytes().into());
    }
    Err(ConfigError::new(
        key,
        format!("invalid value: string {path:?}, expected a path such as \"/a/b\" without a query"),
    ))
}

#[inline(never)]
fn template_pattern(text: &str) -> Result<PathPattern, ConfigError> {
    let template = PathTemplate::parse(text)
        .map_err(|refusal| ConfigError::invalid_text("path.template", text, refusal))?;
    let segment = |segment: &Segment<'_>| match segment {
        Segment::Text(text) => Some(text.as_bytes().into()),
        Segment::Any(_) => None,
    };
    Ok(PathPattern::Template {
        segments: template.segments.iter().map(segment).collect(),
        open: template.open,
    })
}

fn compile_methods(methods: &[String]) -> Result<Vec<Box<[u8]>>, ConfigError> {
    if methods.is_empty() {
        return Err(ConfigError::new(
            "methods",
            "empty, which no request fits; expected methods, or no such key",
        ));
    }
    let method = |(i, method): (usize, &String)| {
        if is_token(method.as_bytes()) && !method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Ok(method.as_bytes().into());
        }
        Err(ConfigError::new(
            format!("methods[{i}]"),
            format!("invalid value: string {method:?}, expected a method such as \"GET\""),
        ))
    };
    methods.iter().enumerate().map(method).collect()
}

#[inline(never)]
fn host_pattern(host: &str) -> Result<HostPattern, ConfigError> {
    let lower = host.to_ascii_lowercase();
    let (name, is_below) = match lower.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (lower.as_str(), false),
    };
    let is_address = name.starts_with('[') && name.ends_with(']') && !is_below;
    let has_port = name.contains(':') && !is_address;
    if name.is_empty() || has_port || name.contains(['*', '/', ' ']) {
        return Err(ConfigError::new(
            "host",
            format!(
                "invalid value: string {host:?}, expected a host without a port, such as \
                 \"shop.example\" or \"*.example\""
            ),
        ));
    }
    let name = name.trim_end_matches('.').as_bytes().into();
    Ok(match is_below {
        true => HostPattern::Below(name),
        false => HostPattern::Exact(name),
    })
}

impl HeaderConfig {
    #[inline(never)]
    fn compile(&self) -> Result<HeaderPattern, ConfigError> {
        let value = match (&self.exact, &self.prefix, self.present) {
            (Some(text), None, None) => ValuePattern::Exact(text.as_bytes().into()),
            (None, Some(text), None) => ValuePattern::Prefix(text.as_bytes().into()),
            (None, None, Some(true)) => ValuePattern::Present,
            _ => {
                return Err(ConfigError::new(
                    "",
                    "expected exactly one of `exact`, `prefix` and `present: true`",
                ));
            }
        };
        Ok(HeaderPattern {
            name: read_name(&self.name)
                .map_err(|refusal| ConfigError::invalid_text("name", &self.name, refusal))?,
            value,
        })
    }
}

/// The name of a header that is written or removed, in lower case.
pub(crate) fn header_name(key: &str, name: &str) -> Result<Box<[u8]>, ConfigError> {
    written_name(name).map_err(|refusal| ConfigError::invalid_text(key, name, refusal))
}
