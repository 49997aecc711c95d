//! The configuration of propagation: the JSON text, and what it compiles to.

use core::fmt;

use ipnet::IpNet;
use meshtrace_config::{ConfigError, RequestHeaders};
use meshtrace_headers::{Headers, NameRefusal, check_name, is_token};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::baggage::BaggageSource;
use crate::destination::{Clear, DestinationPolicy, Overrides};
use crate::format::{B3TraceIdBits, Format, FormatSet, OnDefer, Reading, Writing};
use crate::trust::{Direction, Untrusted};
use crate::vendor::Vendor;
use crate::{Field, OnRepeated, SamplingState};

/// Most headers besides the known ones that one `clear` takes.
pub const MAX_CLEAR: usize = 16;

/// `trace_context.wasm`'s configuration; every key is optional.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct TraceContextConfig {
    /// Where the filter stands. Default `downstream`.
    pub placement: Placement,
    /// The formats to read, in order; the first valid one wins. Default `tracecontext`, `b3`,
    /// `b3multi`.
    pub extract: Option<Vec<Format>>,
    /// Upstream only, required there: the one format that the proxy's tracer writes. `b3` and
    /// `b3multi` both read either shape of B3, as Envoy's Zipkin tracer writes from 1.40 on the
    /// shape that came in; the one that is named is believed where the headers cannot tell.
    pub tracer: Option<Format>,
    /// The formats to write. Default `tracecontext` and `b3multi`.
    pub inject: Option<InjectConfig>,
    /// What `inject: "preserve"` writes when no format came in. Default `tracecontext`.
    pub default_format: Option<Format>,
    /// Formats, or header names, to remove from the request.
    pub clear: Vec<String>,
    /// Destinations that get something else than `inject` and `clear` say; the first match wins.
    pub overrides: Vec<OverrideConfig>,
    /// Whose baggage headers are joined into W3C's `baggage`. Default none.
    pub baggage_from: Vec<BaggageSource>,
    /// Whether to believe the caller's context. Default `continue`.
    pub incoming: Option<IncomingConfig>,
    /// What to do when no context came in. Default `pass`.
    pub on_missing: Option<OnMissing>,
    /// The sampled flag of a trace that is started here. Default false.
    pub generate_sampled: bool,
    /// What to do when two formats name different traces. Default `first`.
    pub on_conflict: Option<OnConflict>,
    /// What becomes of a `traceparent` that came more than once, and of any format's header with
    /// several values joined by commas. Default `same_trace`.
    pub on_repeated: Option<OnRepeated>,
    /// What a format without a "deferred" state (W3C, Jaeger, gRPC) is told when the decision was
    /// left open. Default `unsampled`.
    pub on_defer: OnDefer,
    /// The width of trace ids in B3. Default 128.
    pub b3_trace_id_bits: B3TraceIdBits,
    /// Read B3 exactly as specified. Default false.
    pub b3_strict: bool,
    /// Set W3C's `random` flag on traces that are started here. Default false.
    pub random_flag: bool,
    /// How the request's headers are changed: `edit`, or `filter_state` with what `meshtrace render
    /// request-headers` prints. Default `edit`.
    pub request_headers: Option<RequestHeaders>,
}

/// Where the filter stands.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// An HTTP filter of the listener.
    #[default]
    Downstream,
    /// An upstream HTTP filter, after the proxy's tracer has written its headers.
    Upstream,
}

/// What to write.
#[derive(Clone, Debug)]
pub enum InjectConfig {
    /// These formats.
    Formats(Vec<Format>),
    /// The format that came in.
    Preserve,
}

/// What one destination gets in place of the top level's `inject` and `clear`.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct OverrideConfig {
    /// The upstream cluster's name, to the letter. Either this or `host`.
    pub cluster: Option<String>,
    /// The host of `:authority`, without port and whatever its case; `*.example.com` is every host
    /// below that domain.
    pub host: Option<String>,
    /// The formats to write. Default the top level's, less what this entry clears.
    pub inject: Option<InjectConfig>,
    /// Formats, or header names, to remove from the request. Default the top level's.
    pub clear: Option<Vec<String>>,
}

/// Whether to believe the caller's context.
#[derive(Clone, Debug)]
pub struct IncomingConfig {
    /// What happens to it.
    pub mode: IncomingMode,
    /// When it happens; every caller when absent.
    pub when: WhenConfig,
}

/// What happens to the context of a caller.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum IncomingMode {
    /// It is continued.
    #[default]
    Continue,
    /// It is replaced by a new trace.
    Restart,
    /// It is stripped.
    Ignore,
}

/// The callers that are not believed; all conditions that are set must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct WhenConfig {
    /// The downstream address lies in none of these networks.
    pub not_from_cidrs: Option<Vec<String>>,
    /// The request has no header of this name.
    pub header_absent: Option<String>,
    /// The listener's traffic direction.
    pub direction: Option<Direction>,
}

/// What to do when no context came in.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnMissing {
    /// Nothing.
    #[default]
    Pass,
    /// Start a trace: for proxies without a tracer.
    Generate,
}

/// What to do when two formats name different traces.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// The format listed first wins.
    #[default]
    First,
    /// A new trace is started.
    Restart,
}

impl<'de> Deserialize<'de> for InjectConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InjectVisitor;

        impl<'de> Visitor<'de> for InjectVisitor {
            type Value = InjectConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"preserve\" or a list of formats")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<InjectConfig, E> {
                match text {
                    "preserve" => Ok(InjectConfig::Preserve),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<InjectConfig, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(InjectConfig::Formats)
            }
        }

        deserializer.deserialize_any(InjectVisitor)
    }
}

impl<'de> Deserialize<'de> for IncomingConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Conditional {
            mode: IncomingMode,
            #[serde(default)]
            when: WhenConfig,
        }

        struct IncomingVisitor;

        impl<'de> Visitor<'de> for IncomingVisitor {
            type Value = IncomingConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mode or an object of `mode` and `when`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<IncomingConfig, E> {
                let mode = IncomingMode::deserialize(serde::de::value::StrDeserializer::new(text))?;
                Ok(IncomingConfig {
                    mode,
                    when: WhenConfig::default(),
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<IncomingConfig, A::Error> {
                let Conditional { mode, when } =
                    Conditional::deserialize(MapAccessDeserializer::new(map))?;
                Ok(IncomingConfig { mode, when })
            }
        }

        deserializer.deserialize_any(IncomingVisitor)
    }
}

/// A compiled [`TraceContextConfig`]: what to do with the context of every request.
#[derive(Clone, Debug)]
pub struct Propagation {
    /// Read, in order.
    pub(crate) extract: Vec<Format>,
    /// Where no override matches.
    pub(crate) policy: DestinationPolicy,
    pub(crate) overrides: Overrides,
    pub(crate) baggage_from: Vec<BaggageSource>,
    pub(crate) incoming: IncomingMode,
    pub(crate) untrusted: Untrusted,
    pub(crate) on_missing: OnMissing,
    pub(crate) generate_sampled: bool,
    pub(crate) on_conflict: OnConflict,
    pub(crate) on_repeated: OnRepeated,
    pub(crate) random_flag: bool,
    pub(crate) reading: Reading,
    pub(crate) writing: Writing,
    pub(crate) placement: Placement,
    needs_own_context: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Inject {
    Formats(FormatSet),
    Preserve { default: Format },
}

impl Propagation {
    /// Compiles `config`.
    ///
    /// # Errors
    /// When two keys contradict each other or a value is impossible, with the key's path.
    #[inline(never)]
    pub fn new(config: &TraceContextConfig) -> Result<Self, ConfigError> {
        let extract = match config.placement {
            Placement::Downstream => downstream(config)?,
            Placement::Upstream => upstream(config)?,
        };
        if config.default_format.is_some() && !preserves(config) {
            return Err(ConfigError::new(
                "default_format",
                "only with inject \"preserve\"; a list says itself what to write",
            ));
        }
        let top = policy(config, &extract, None)?;
        let overrides = overrides(config, &extract)?;
        refuse_repeats("baggage_from", &config.baggage_from)?;
        let (incoming, untrusted) = incoming(config.incoming.as_ref())?;
        let propagation = Self {
            needs_own_context: incoming != IncomingMode::Continue,
            policy: top,
            overrides,
            baggage_from: config.baggage_from.clone(),
            incoming,
            untrusted,
            on_missing: config.on_missing.unwrap_or_default(),
            generate_sampled: config.generate_sampled,
            on_conflict: config.on_conflict.unwrap_or_default(),
            on_repeated: config.on_repeated.unwrap_or_default(),
            random_flag: config.random_flag,
            reading: Reading {
                b3_strict: config.b3_strict,
            },
            writing: Writing {
                on_defer: config.on_defer,
                b3_trace_id_bits: config.b3_trace_id_bits,
            },
            placement: config.placement,
            extract,
        };
        Ok(match propagation.on_missing {
            OnMissing::Pass => propagation,
            OnMissing::Generate => propagation.of_participant(),
        })
    }

    /// Whether deciding about a caller needs its address.
    #[must_use]
    pub fn needs_address(&self) -> bool {
        self.untrusted.not_from.is_some()
    }

    /// Whether deciding about a caller needs the listener's direction.
    #[must_use]
    pub fn needs_direction(&self) -> bool {
        self.untrusted.direction.is_some()
    }

    /// Whether what leaves depends on the upstream cluster.
    #[must_use]
    pub fn needs_cluster(&self) -> bool {
        self.overrides.name_clusters()
    }

    /// Whether a request that comes by a second time, as after an internal redirect, is told by what
    /// [`TraceContext::to_bytes`] kept of the first: its headers alone would not be believed, or not
    /// be read.
    ///
    /// [`TraceContext::to_bytes`]: crate::TraceContext::to_bytes
    #[must_use]
    pub fn needs_own_context(&self) -> bool {
        self.needs_own_context
    }

    /// The same of a hop that opens spans of its own ([`participate`](Self::participate)), and so
    /// starts a trace wherever it reads none.
    #[must_use]
    pub fn of_participant(mut self) -> Self {
        self.needs_own_context |= !self.reads_what_it_writes();
        self
    }

    /// Whether what leaves for any destination is a context that this filter reads.
    fn reads_what_it_writes(&self) -> bool {
        let reads = |policy: &DestinationPolicy| {
            let written = match policy.inject {
                Inject::Formats(formats) => formats,
                Inject::Preserve { default } => FormatSet::from_iter([default]),
            };
            let mut read = self.extract.iter();
            read.any(|format| written.contains(*format) && !policy.clear.touches(*format))
        };
        self.overrides.policies().chain([&self.policy]).all(reads)
    }

    /// The decision that W3C's flag tells.
    #[must_use]
    pub fn tells_w3c(&self, sampling: SamplingState) -> bool {
        self.writing.decision(sampling)
    }

    /// What a person should know about this configuration although it is a good one.
    #[must_use]
    pub fn caution(&self) -> Option<&'static str> {
        let downstream = self.placement == Placement::Downstream;
        (downstream && !self.overrides.is_empty()).then_some(
            "trace_context.overrides: beside this proxy's own tracer they hold with placement \
             \"upstream\" only, as the tracer writes its headers after this filter",
        )
    }

    /// What stands for a request with these `headers` to this `cluster`.
    #[must_use]
    pub fn policy_for(&self, headers: &Headers<'_>, cluster: Option<&[u8]>) -> &DestinationPolicy {
        self.overrides
            .find(headers, cluster)
            .unwrap_or(&self.policy)
    }
}

fn downstream(config: &TraceContextConfig) -> Result<Vec<Format>, ConfigError> {
    if config.tracer.is_some() {
        return Err(ConfigError::new(
            "tracer",
            "only with placement \"upstream\"; downstream the formats to read are in `extract`",
        ));
    }
    let extract = match &config.extract {
        Some(formats) => formats.clone(),
        None => Format::EXTRACTED_BY_DEFAULT.to_vec(),
    };
    refuse_repeats("extract", &extract)?;
    Ok(extract)
}

fn upstream(config: &TraceContextConfig) -> Result<Vec<Format>, ConfigError> {
    let downstream_only = [
        ("extract", config.extract.is_some()),
        ("incoming", config.incoming.is_some()),
        ("on_missing", config.on_missing.is_some()),
        ("on_conflict", config.on_conflict.is_some()),
        ("on_repeated", config.on_repeated.is_some()),
    ];
    for (key, present) in downstream_only {
        if present {
            return Err(ConfigError::new(
                key,
                "not with placement \"upstream\", where the context is the tracer's own",
            ));
        }
    }
    let tracer = config.tracer.ok_or_else(|| {
        ConfigError::new(
            "tracer",
            format!(
                "required with placement \"upstream\": the one format that this proxy's tracer \
             writes, one of {}",
                Format::NAMES
            ),
        )
    })?;
    Ok(match tracer {
        Format::B3 => vec![Format::B3, Format::B3Multi],
        Format::B3Multi => vec![Format::B3Multi, Format::B3],
        tracer => vec![tracer],
    })
}

fn refuse_repeats<T: PartialEq>(key: &str, formats: &[T]) -> Result<(), ConfigError> {
    for (i, format) in formats.iter().enumerate() {
        if formats.iter().take(i).any(|before| before == format) {
            return Err(ConfigError::new(
                format!("{key}[{i}]"),
                "listed before; expected each format once",
            ));
        }
    }
    Ok(())
}

fn preserves(config: &TraceContextConfig) -> bool {
    let own = config.overrides.iter().map(|entry| entry.inject.as_ref());
    own.chain([config.inject.as_ref()])
        .any(|inject| matches!(inject, Some(InjectConfig::Preserve)))
}

/// What is written and removed at the top level, or where one of its overrides matches.
#[inline(never)]
fn policy(
    config: &TraceContextConfig,
    extract: &[Format],
    own: Option<&OverrideConfig>,
) -> Result<DestinationPolicy, ConfigError> {
    let own_clear = own.and_then(|own| own.clear.as_deref());
    let clear = clear(own_clear.unwrap_or(&config.clear))?;
    let inherits_clear = own.is_some() && own_clear.is_none();
    let own_inject = own.and_then(|own| own.inject.as_ref());
    let inject = match own_inject.or(config.inject.as_ref()) {
        Some(InjectConfig::Preserve) => Inject::Preserve {
            default: config.default_format.unwrap_or(Format::Tracecontext),
        },
        Some(InjectConfig::Formats(formats)) => {
            // What an entry inherits gives way to what it clears.
            if own.is_none() || own_inject.is_some() {
                refuse_repeats("inject", formats)?;
                refuse_cleared(formats, &clear, inherits_clear)?;
            }
            Inject::Formats(formats.iter().copied().collect())
        }
        None => Inject::Formats(FormatSet::from_iter([
            Format::Tracecontext,
            Format::B3Multi,
        ])),
    };
    let mut in_step: FormatSet = extract.iter().copied().collect();
    if config.placement == Placement::Upstream {
        let written = match inject {
            Inject::Formats(formats) => formats,
            Inject::Preserve { default } => FormatSet::from_iter([default]),
        };
        let usual = Format::EXTRACTED_BY_DEFAULT.iter().copied().collect();
        in_step = in_step.union(usual).union(written);
    }
    Ok(DestinationPolicy {
        inject,
        clear,
        in_step,
    })
}

fn refuse_cleared(
    formats: &[Format],
    clear: &Clear,
    inherits_clear: bool,
) -> Result<(), ConfigError> {
    let cleared = formats
        .iter()
        .position(|format| clear.formats.contains(*format));
    let Some(i) = cleared else {
        return Ok(());
    };
    let message = if inherits_clear {
        "also in the top level's `clear`, which this entry inherits; give it a `clear` of its own"
    } else {
        "also in `clear`; a format is either written or removed"
    };
    Err(ConfigError::new(format!("inject[{i}]"), message))
}

#[inline(never)]
fn overrides(config: &TraceContextConfig, extract: &[Format]) -> Result<Overrides, ConfigError> {
    let mut overrides = Overrides::default();
    for (i, entry) in config.overrides.iter().enumerate() {
        add_override(&mut overrides, config, extract, entry)
            .map_err(|error| error.below(&format!("overrides[{i}]")))?;
    }
    Ok(overrides)
}

fn add_override(
    overrides: &mut Overrides,
    config: &TraceContextConfig,
    extract: &[Format],
    entry: &OverrideConfig,
) -> Result<(), ConfigError> {
    if entry.inject.is_none() && entry.clear.is_none() {
        return Err(ConfigError::new(
            "",
            "changes nothing; expected `inject`, `clear` or both",
        ));
    }
    let policy = policy(config, extract, Some(entry))?;
    match (&entry.cluster, &entry.host) {
        (Some(cluster), None) => overrides.push_cluster(cluster, policy),
        (None, Some(host)) => overrides.push_host(host, policy),
        (None, None) | (Some(_), Some(_)) => {
            Err(ConfigError::new("", "expected either `cluster` or `host`"))
        }
    }
}

#[inline(never)]
fn clear(entries: &[String]) -> Result<Clear, ConfigError> {
    let mut clear = Clear::default();
    for (i, entry) in entries.iter().enumerate() {
        let name = entry.to_ascii_lowercase();
        if let Ok(format) = Format::deserialize(serde::de::value::StrDeserializer::<
            serde::de::value::Error,
        >::new(&name))
        {
            clear.formats.insert(format);
            clear.families.extend(format.companions());
        } else if let Some(vendor) = Vendor::from_name(&name) {
            clear.families.push(vendor.family());
        } else if let Some(field) = Field::from_name(name.as_bytes()) {
            clear.fields.insert(field);
        } else if let Err(refusal) = check_name(&name) {
            let message = match refusal {
                NameRefusal::NotAToken => format!(
                    "invalid value: string {entry:?}, expected a format ({}), a vendor ({}) or the \
                     name of a header",
                    Format::NAMES,
                    Vendor::NAMES,
                ),
                NameRefusal::Framing | NameRefusal::OfResponses => {
                    format!("invalid value: string {entry:?}, {refusal}")
                }
            };
            return Err(ConfigError::new(format!("clear[{i}]"), message));
        } else if clear.names.len() == MAX_CLEAR {
            return Err(ConfigError::new(
                format!("clear[{i}]"),
                format!("too many headers; expected at most {MAX_CLEAR}"),
            ));
        } else {
            clear.names.push(name.into_bytes().into_boxed_slice());
        }
    }
    Ok(clear)
}

#[inline(never)]
fn incoming(config: Option<&IncomingConfig>) -> Result<(IncomingMode, Untrusted), ConfigError> {
    let Some(IncomingConfig { mode, when }) = config else {
        return Ok((IncomingMode::Continue, Untrusted::default()));
    };
    let header_absent = match &when.header_absent {
        None => None,
        Some(name) => {
            let name = name.to_ascii_lowercase();
            if !is_token(name.as_bytes()) || name == "host" {
                return Err(ConfigError::new(
                    "incoming.when.header_absent",
                    format!("invalid value: string {name:?}, expected the name of a header"),
                ));
            }
            Some(name.into_bytes().into_boxed_slice())
        }
    };
    let untrusted = Untrusted {
        not_from: when.not_from_cidrs.as_deref().map(networks).transpose()?,
        header_absent,
        direction: when.direction,
    };
    Ok((*mode, untrusted))
}

fn networks(texts: &[String]) -> Result<Vec<IpNet>, ConfigError> {
    texts
        .iter()
        .enumerate()
        .map(|(i, text)| {
            text.parse().map_err(|_| {
                ConfigError::new(
                    format!("incoming.when.not_from_cidrs[{i}]"),
                    format!(
                        "invalid value: string {text:?}, expected a network such as \"10.0.0.0/8\""
                    ),
                )
            })
        })
        .collect()
}
