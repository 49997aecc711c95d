//! The configuration of sampling as it is written.

use meshtrace_config::{Kind, Read, RequestHeaders, Value, object, words};
use meshtrace_propagation::Placement;
use meshtrace_propagation::format::Format;

/// The configuration of `route_sampling.wasm`. Every key is optional.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
pub struct SamplingConfig {
    /// The rules. The first rule that a request matches decides.
    pub rules: Vec<RuleConfig>,
    /// What to do with a request that matches no rule. Default `unchanged`.
    pub default: SampleConfig,
    /// What becomes of the sampling decision that a request brings. Default `respect`.
    pub parent: ParentPolicy,
    /// A header with which an operator keeps a request, whatever the rules say.
    pub force: Option<ForceConfig>,
    /// Downstream: the header that makes this proxy's tracer record a trace that it starts; `null`
    /// for none. Default `x-envoy-force-trace`. Upstream the filter removes the header.
    pub request_header: Option<Option<String>>,
    /// Where the filter stands. Default `downstream`.
    pub placement: Placement,
    /// Downstream: the formats that this proxy's tracer reads, in order. Default `tracecontext`,
    /// `b3`, `b3multi`.
    pub extract: Option<Vec<Format>>,
    /// Upstream, required there: the one format that this proxy's tracer writes.
    pub tracer: Option<Format>,
    /// Downstream: the helper header with the trace id of the span that the tracer started.
    pub ids: IdsConfig,
    /// How the request's headers are changed: `edit`, or `filter_state` with what `meshtrace render
    /// request-headers` prints. Default `edit`.
    pub request_headers: Option<RequestHeaders>,
}

/// One rule.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields)
)]
pub struct RuleConfig {
    /// The name in the counters: letters, digits, `_` and `-`. Default: the index in the list.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub name: Option<String>,
    /// The requests that match. Default: all.
    #[cfg_attr(feature = "schema", schemars(default, rename = "match"))]
    pub matches: MatchConfig,
    /// What to do with them.
    pub sample: SampleConfig,
}

/// The conditions of a rule. A request matches when all conditions that are set hold.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
pub struct MatchConfig {
    /// The path without its query, case-sensitive.
    pub path: Option<PathConfig>,
    /// The method is one of these, at most 64.
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub methods: Option<Vec<String>>,
    /// The host without its port, case-insensitive. `*.example.com` matches every name below the
    /// domain.
    pub host: Option<String>,
    /// The request has all of these headers.
    pub headers: Vec<HeaderConfig>,
    /// The name of Envoy's route.
    pub route: Option<String>,
    /// The name of Envoy's cluster.
    pub cluster: Option<ClusterConfig>,
}

/// A condition on the path.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "lowercase")
)]
pub enum PathConfig {
    /// The path is equal to this text.
    Exact(String),
    /// The path is equal to this text, or continues after it with a slash.
    Prefix(String),
    /// The path has these segments. `{name}` and `*` match any one segment that is not empty, `**`
    /// at the end any number of segments.
    Template(String),
    /// The whole path matches this regular expression.
    Regex(String),
}

/// A condition on the name of Envoy's cluster.
#[derive(Clone, Debug)]
pub enum ClusterConfig {
    /// The name is equal to this text.
    Exact(String),
    /// The name begins with this text.
    Prefix(String),
}

/// A condition on one header. Of a repeated header the first line counts.
#[derive(Clone, Debug, Default)]
pub struct HeaderConfig {
    /// The name of the header, case-insensitive.
    pub name: String,
    /// The value is equal to this text.
    pub exact: Option<String>,
    /// The value begins with this text.
    pub prefix: Option<String>,
    /// `true`: the request has the header.
    pub present: Option<bool>,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum SampleConfig {
    /// Sample it.
    Always,
    /// Do not sample it.
    Never,
    /// Leave the sampling decision as it is.
    #[default]
    Unchanged,
    /// Sample this part of all traces, from 0 to 1.
    Ratio(f64),
    /// Sample at most this number of requests a second.
    PerSecond(f64),
}

/// What becomes of the sampling decision that a request brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub enum ParentPolicy {
    /// The decision stands.
    #[default]
    Respect,
    /// The rules decide.
    Ignore,
    /// The decision `sampled` stands. The rules decide about the other requests.
    RespectSampled,
    /// The decision `not sampled` stands. The rules decide about the other requests.
    RespectDropped,
}

impl ParentPolicy {
    /// Whether the decision `sampled` of the caller stands.
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

/// A header with which an operator keeps a request.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields)
)]
pub struct ForceConfig {
    /// The name of the header. The filter removes it from every request.
    pub header: String,
    /// The environment variable of the VM that holds the required value.
    pub value_env: String,
}

/// The helper header with the trace id.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
pub struct IdsConfig {
    /// The name of the header. The filter removes it from the request.
    pub trace_id_header: Option<String>,
}

object!(SamplingConfig {
    rules,
    default,
    parent,
    force,
    request_header,
    placement,
    extract,
    tracer,
    ids,
    request_headers,
});

object!(RuleConfig {
    name,
    matches = "match",
    sample: required,
});

object!(MatchConfig {
    path,
    methods,
    host,
    headers,
    route,
    cluster,
});

object!(HeaderConfig {
    name,
    exact,
    prefix,
    present,
});

words!(ParentPolicy {
    Respect = "respect",
    Ignore = "ignore",
    RespectSampled = "respect_sampled",
    RespectDropped = "respect_dropped",
});

object!(ForceConfig {
    header: required,
    value_env: required,
});

object!(IdsConfig { trace_id_header });

impl Read for PathConfig {
    fn read(value: Value<'_>) -> Self {
        type Condition = (&'static str, fn(String) -> PathConfig);
        const CONDITIONS: [Condition; 4] = [
            ("exact", PathConfig::Exact),
            ("prefix", PathConfig::Prefix),
            ("template", PathConfig::Template),
            ("regex", PathConfig::Regex),
        ];
        let mut path = None;
        value.tagged(&CONDITIONS.map(|(name, _)| name), 0, &mut |place, text| {
            let condition = CONDITIONS.get(place).zip(text);
            path = condition.map(|((_, condition), text)| condition(Read::read(text)));
        });
        path.unwrap_or(Self::Exact(String::new()))
    }
}

impl Read for ClusterConfig {
    fn read(value: Value<'_>) -> Self {
        if let Some(name) = value.quiet_text() {
            return Self::Exact(name);
        }
        if value.kind() != Kind::Object {
            value.refuse_form("a name, or {\"prefix\": \"outbound|80|v2|\"}");
            return Self::Exact(String::new());
        }
        let mut cluster = None;
        value.tagged(&["exact", "prefix"], 0, &mut |place, text| {
            let condition = match place {
                0 => Self::Exact,
                _ => Self::Prefix,
            };
            cluster = text.map(|text| condition(Read::read(text)));
        });
        cluster.unwrap_or(Self::Exact(String::new()))
    }
}

impl Read for SampleConfig {
    fn read(value: Value<'_>) -> Self {
        let mut sample = Self::Unchanged;
        match value.quiet_text().as_deref() {
            Some("always") => sample = Self::Always,
            Some("never") => sample = Self::Never,
            Some("unchanged") => {}
            None if value.kind() == Kind::Object => {
                let mut keys = 0;
                value.map(&mut |name, rate| {
                    keys += 1;
                    match name {
                        "ratio" => sample = Self::Ratio(Read::read(rate)),
                        "per_second" => sample = Self::PerSecond(Read::read(rate)),
                        _ => rate.refuse_key(&["ratio", "per_second"]),
                    }
                });
                if keys != 1 {
                    value.refuse(&format!("{keys} keys, expected `ratio` or `per_second`"));
                }
            }
            _ => value.refuse_form(
                "\"always\", \"never\", \"unchanged\", {\"ratio\": 0.1} or {\"per_second\": 5}",
            ),
        }
        sample
    }
}
