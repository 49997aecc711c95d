//! The configuration of the ids: the JSON text, and what it compiles to.

use core::fmt;

use meshtrace_config::{ConfigError, RequestHeaders};
use meshtrace_envoy::filter_state;
use meshtrace_headers::{Managed, NameRefusal, check_name, check_response_name};
use meshtrace_propagation::format::Format;
use meshtrace_propagation::{OnRepeated, refuse_repeats};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::shape::Shape;

/// The longest name of a Google Cloud project that is taken, in bytes: one with a domain before it.
const MAX_PROJECT: usize = 80;

/// `access_log_trace.wasm`'s configuration; every key is optional.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogTraceConfig {
    /// Where the ids come from. Default `auto`.
    pub source: Source,
    /// The headers into which a step before the filter has copied the proxy's own ids.
    pub ids: IdsConfig,
    /// What this proxy's tracer reads and writes. Default null: not known.
    pub tracer: Option<TracerConfig>,
    /// Without a tracer, and where it is not known: the formats to read, in order. Default
    /// `tracecontext`, `b3`, `b3multi`.
    pub extract: Option<Vec<Format>>,
    /// The `spawn_upstream_span` of the proxy's `tracing`. Default null: not known.
    pub spawn_upstream_span: Option<bool>,
    /// The `shared_span_context` of the proxy's Zipkin tracer. Default null: not known.
    pub shared_span_context: Option<bool>,
    /// Further forms of the ids.
    pub shapes: Vec<ShapeConfig>,
    /// The response header that tells the caller the trace id. Default none.
    pub response_header: Option<ResponseHeaderConfig>,
    /// How the request's headers are changed: `edit`, or `filter_state` with what `meshtrace render
    /// request-headers` prints. Default `edit`.
    pub request_headers: Option<RequestHeaders>,
}

/// Where the ids come from.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The headers of `ids`, else what the tracer has written, else what came in.
    #[default]
    Auto,
}

/// The headers into which a step before the filter has copied the proxy's own ids.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct IdsConfig {
    /// The header with `%TRACE_ID%`.
    pub trace_id_header: Option<String>,
    /// The header with `%SPAN_ID%` (Envoy 1.38 and later).
    pub span_id_header: Option<String>,
}

/// What the proxy's tracer reads and writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TracerConfig {
    /// The proxy has no tracer.
    None,
    /// These formats, in the order in which it reads them. `b3` and `b3multi` are each both shapes
    /// of B3.
    Formats(Vec<Format>),
}

/// A further form of the ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShapeConfig {
    /// As Datadog writes them.
    Datadog,
    /// As Google Cloud Logging links them.
    Gcp {
        /// The Google Cloud project.
        project: String,
    },
    /// As B3's 64-bit form has them.
    B3Bits64,
}

/// The response header that tells the caller the trace id.
#[derive(Clone, Debug, Default)]
pub struct ResponseHeaderConfig {
    /// Its name.
    pub name: Option<String>,
    /// Whether `traceresponse` is set too: what drafts of W3C Trace Context Level 2 and 3 had.
    pub traceresponse: bool,
    /// Whether `Server-Timing` tells the trace too: what the draft of Level 3 has in its place.
    pub server_timing: bool,
}

impl<'de> Deserialize<'de> for TracerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TracerVisitor;

        impl<'de> Visitor<'de> for TracerVisitor {
            type Value = TracerConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "\"none\", a format ({}) or a list of formats",
                    Format::NAMES
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<TracerConfig, E> {
                if text == "none" {
                    return Ok(TracerConfig::None);
                }
                Format::deserialize(StrDeserializer::<E>::new(text))
                    .map(|format| TracerConfig::Formats(vec![format]))
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<TracerConfig, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(TracerConfig::Formats)
            }
        }

        deserializer.deserialize_any(TracerVisitor)
    }
}

impl<'de> Deserialize<'de> for ShapeConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Gcp {
            gcp: Project,
        }

        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Project {
            project: String,
        }

        struct ShapeVisitor;

        impl<'de> Visitor<'de> for ShapeVisitor {
            type Value = ShapeConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"datadog\", \"b3_64\" or {\"gcp\": {\"project\": …}}")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ShapeConfig, E> {
                match text {
                    "datadog" => Ok(ShapeConfig::Datadog),
                    "b3_64" => Ok(ShapeConfig::B3Bits64),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ShapeConfig, A::Error> {
                let Gcp { gcp } = Gcp::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ShapeConfig::Gcp {
                    project: gcp.project,
                })
            }
        }

        deserializer.deserialize_any(ShapeVisitor)
    }
}

impl<'de> Deserialize<'de> for ResponseHeaderConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Object {
            name: Option<String>,
            traceresponse: bool,
            server_timing: bool,
        }

        struct HeaderVisitor;

        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = ResponseHeaderConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "the name of a header, or an object of `name`, `traceresponse` and \
                     `server_timing`",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ResponseHeaderConfig, E> {
                Ok(ResponseHeaderConfig {
                    name: Some(text.to_owned()),
                    ..ResponseHeaderConfig::default()
                })
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                map: A,
            ) -> Result<ResponseHeaderConfig, A::Error> {
                let Object {
                    name,
                    traceresponse,
                    server_timing,
                } = Object::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ResponseHeaderConfig {
                    name,
                    traceresponse,
                    server_timing,
                })
            }
        }

        deserializer.deserialize_any(HeaderVisitor)
    }
}

/// A compiled [`AccessLogTraceConfig`]: what can be known of every request's span.
#[derive(Clone, Debug)]
pub struct AccessLogIds {
    pub(crate) trace_id_header: Option<Box<[u8]>>,
    pub(crate) span_id_header: Option<Box<[u8]>>,
    pub(crate) tracer: TracerKind,
    /// Read in this order: the tracer's formats, or `extract`.
    pub(crate) formats: Vec<Format>,
    pub(crate) spawns: Option<bool>,
    pub(crate) shares: Option<bool>,
    /// How a header is read that came more than once.
    pub(crate) on_repeated: OnRepeated,
    /// Whether values that were joined in one line are taken. Envoy's own tracers refuse them: they
    /// read the first line as one value.
    pub(crate) takes_joined: bool,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) response_header: Option<Box<[u8]>>,
    pub(crate) traceresponse: bool,
    pub(crate) server_timing: bool,
}

/// What is known of the proxy's tracer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TracerKind {
    /// Nothing.
    Unknown,
    /// There is none.
    None,
    /// One that reads and writes B3, perhaps among other formats.
    Zipkin,
    /// One that neither reads nor writes B3.
    Other,
}

impl AccessLogIds {
    /// Compiles `config`.
    ///
    /// # Errors
    /// When two keys contradict each other or a value is impossible, with the key's path.
    #[inline(never)]
    pub fn new(config: &AccessLogTraceConfig) -> Result<Self, ConfigError> {
        let Source::Auto = config.source;
        let (tracer, formats) = tracer(config)?;
        let trace_id_header = header_name(
            "ids.trace_id_header",
            &config.ids.trace_id_header,
            check_name,
        )?;
        let span_id_header =
            header_name("ids.span_id_header", &config.ids.span_id_header, check_name)?;
        if span_id_header.is_some() && trace_id_header.is_none() {
            return Err(ConfigError::new(
                "ids.span_id_header",
                "only with `ids.trace_id_header`: a span id is one of its trace",
            ));
        }
        if span_id_header.is_some() && span_id_header == trace_id_header {
            return Err(ConfigError::new(
                "ids.span_id_header",
                "the same as `ids.trace_id_header`; expected a header of its own",
            ));
        }
        let response_header = config.response_header.clone().unwrap_or_default();
        let name = response_name(&response_header)?;
        Ok(Self {
            trace_id_header,
            span_id_header,
            tracer,
            formats,
            spawns: config.spawn_upstream_span,
            shares: config.shared_span_context,
            on_repeated: OnRepeated::SameTrace,
            takes_joined: tracer == TracerKind::None,
            shapes: shapes(&config.shapes)?,
            traceresponse: response_header.traceresponse,
            server_timing: response_header.server_timing,
            response_header: name,
        })
    }

    /// As `trace_context` beside it reads a header that came more than once, where no tracer is named
    /// that reads it first.
    #[must_use]
    pub fn beside(self, on_repeated: OnRepeated) -> Self {
        match self.tracer {
            TracerKind::Zipkin | TracerKind::Other => self,
            TracerKind::Unknown | TracerKind::None => Self {
                on_repeated,
                takes_joined: true,
                ..self
            },
        }
    }

    /// The filter state keys that it sets, without Envoy's `wasm.` before them.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        let shapes = self.shapes.iter().flat_map(|shape| shape.keys());
        Self::KEYS.iter().chain(shapes).copied()
    }

    /// The helper headers, which never leave.
    #[must_use]
    pub fn managed_headers(&self) -> Vec<Managed<'_>> {
        let names = [&self.trace_id_header, &self.span_id_header].into_iter();
        names
            .filter_map(|name| name.as_deref())
            .map(|name| Managed {
                name,
                leaves: false,
            })
            .collect()
    }

    /// The filter state keys that every configuration sets, without Envoy's `wasm.` before them.
    pub const KEYS: &'static [&'static str] = &[
        filter_state::TRACE_ID,
        filter_state::SPAN_ID,
        filter_state::PARENT_SPAN_ID,
        filter_state::TRACE_FLAGS,
        filter_state::TRACE_FORMAT,
    ];

    /// Whether responses are told of the trace.
    #[must_use]
    pub fn tells_responses(&self) -> bool {
        self.tells_span() || self.response_header.is_some()
    }

    /// Whether responses are told the span, not only the trace.
    #[must_use]
    pub fn tells_span(&self) -> bool {
        self.traceresponse || self.server_timing
    }
}

fn tracer(config: &AccessLogTraceConfig) -> Result<(TracerKind, Vec<Format>), ConfigError> {
    let extract = || match &config.extract {
        None => Ok(Format::EXTRACTED_BY_DEFAULT.to_vec()),
        Some(formats) => {
            refuse_repeats("extract", formats)?;
            Ok(formats.clone())
        }
    };
    match &config.tracer {
        None => Ok((TracerKind::Unknown, extract()?)),
        Some(TracerConfig::None) => Ok((TracerKind::None, extract()?)),
        Some(TracerConfig::Formats(_)) if config.extract.is_some() => Err(ConfigError::new(
            "extract",
            "not with `tracer`, which names the formats itself",
        )),
        Some(TracerConfig::Formats(formats)) => {
            if formats.is_empty() {
                return Err(ConfigError::new(
                    "tracer",
                    "empty; expected a format, or \"none\" for a proxy without a tracer",
                ));
            }
            refuse_repeats("tracer", formats)?;
            let mut read = Vec::new();
            for format in formats {
                // A tracer of B3 reads both shapes, the single header first.
                let shapes: &[_] = match format {
                    Format::B3 | Format::B3Multi => &[Format::B3, Format::B3Multi],
                    format => &[*format],
                };
                for shape in shapes {
                    if !read.contains(shape) {
                        read.push(*shape);
                    }
                }
            }
            let kind = if read.contains(&Format::B3) {
                TracerKind::Zipkin
            } else {
                TracerKind::Other
            };
            Ok((kind, read))
        }
    }
}

/// The name of the response header, which is none that the other ways to tell a response write.
fn response_name(config: &ResponseHeaderConfig) -> Result<Option<Box<[u8]>>, ConfigError> {
    let path = "response_header";
    let name = header_name(path, &config.name, check_response_name)?;
    let others = [
        ("traceresponse", config.traceresponse),
        ("server-timing", config.server_timing),
    ];
    for (other, _) in others.into_iter().filter(|(_, is_told)| *is_told) {
        if name.as_deref() == Some(other.as_bytes()) {
            return Err(ConfigError::new(
                path,
                format!(
                    "`name` is {other:?}, which `{}` writes; expected a header of its own",
                    other.replace('-', "_")
                ),
            ));
        }
    }
    Ok(name)
}

fn header_name(
    path: &str,
    name: &Option<String>,
    check: fn(&str) -> Result<(), NameRefusal>,
) -> Result<Option<Box<[u8]>>, ConfigError> {
    let Some(name) = name else { return Ok(None) };
    check(name).map_err(|refusal| {
        ConfigError::new(path, format!("invalid value: string {name:?}, {refusal}"))
    })?;
    let lower = name.to_ascii_lowercase();
    Ok(Some(lower.into_bytes().into_boxed_slice()))
}

fn shapes(shapes: &[ShapeConfig]) -> Result<Vec<Shape>, ConfigError> {
    let mut compiled: Vec<Shape> = Vec::new();
    for (i, shape) in shapes.iter().enumerate() {
        let shape = match shape {
            ShapeConfig::Datadog => Shape::Datadog,
            ShapeConfig::B3Bits64 => Shape::B3Bits64,
            ShapeConfig::Gcp { project } => Shape::Gcp {
                project: gcp_project(&format!("shapes[{i}].gcp.project"), project)?,
            },
        };
        if compiled.iter().any(|known| known.keys() == shape.keys()) {
            return Err(ConfigError::new(
                format!("shapes[{i}]"),
                "listed before; expected each shape once",
            ));
        }
        compiled.push(shape);
    }
    Ok(compiled)
}

fn gcp_project(path: &str, project: &str) -> Result<Box<[u8]>, ConfigError> {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:".contains(&byte);
    if project.is_empty() || project.len() > MAX_PROJECT || !project.bytes().all(is_allowed) {
        return Err(ConfigError::new(
            path,
            format!(
                "invalid value: string {project:?}, expected a Google Cloud project id such as \
                 \"my-project\", at most {MAX_PROJECT} characters"
            ),
        ));
    }
    Ok(project.as_bytes().into())
}
