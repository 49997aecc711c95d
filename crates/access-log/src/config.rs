//! The configuration of `access_log` as it is written.

use core::fmt;

use meshtrace_config::RequestHeaders;
use meshtrace_propagation::format::Format;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The configuration of `access_log_trace.wasm`. Every key is optional.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogTraceConfig {
    /// Where the ids come from. Default `auto`.
    pub source: Source,
    /// The helper headers, into which a step before the filter copies the proxy's own ids.
    pub ids: IdsConfig,
    /// The formats that this proxy's tracer reads and writes. Default null: not known.
    pub tracer: Option<TracerConfig>,
    /// The formats to read, in order, where the proxy has no tracer or it is not known. Default
    /// `tracecontext`, `b3`, `b3multi`.
    pub extract: Option<Vec<Format>>,
    /// The `spawn_upstream_span` of the proxy's `tracing`. Default null: not known.
    pub spawn_upstream_span: Option<bool>,
    /// The `shared_span_context` of the proxy's Zipkin tracer. Default null: not known.
    pub shared_span_context: Option<bool>,
    /// Additional forms of the ids.
    pub shapes: Vec<ShapeConfig>,
    /// The response header with the trace id, for the caller. Default none.
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
    /// The headers of `ids`; without them the headers that the tracer has written; without those
    /// the headers of the caller.
    #[default]
    Auto,
}

/// The helper headers, into which a step before the filter copies the proxy's own ids.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct IdsConfig {
    /// The name of the header with `%TRACE_ID%`.
    pub trace_id_header: Option<String>,
    /// The name of the header with `%SPAN_ID%` (Envoy 1.38 and later).
    pub span_id_header: Option<String>,
}

/// The formats that the proxy's tracer reads and writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TracerConfig {
    /// The proxy has no tracer.
    None,
    /// These formats, in the order in which it reads them. `b3` and `b3multi` are each both shapes
    /// of B3.
    Formats(Vec<Format>),
}

/// An additional form of the ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShapeConfig {
    /// The decimal form of Datadog.
    Datadog,
    /// The resource name of Google Cloud Logging.
    Gcp {
        /// The Google Cloud project.
        project: String,
    },
    /// The 64-bit form of B3.
    B3Bits64,
}

/// The response header with the trace id, for the caller.
#[derive(Clone, Debug, Default)]
pub struct ResponseHeaderConfig {
    /// The name of the header.
    pub name: Option<String>,
    /// Whether the filter sets `traceresponse` too, as drafts of W3C Trace Context Level 2 and 3
    /// had it.
    pub traceresponse: bool,
    /// Whether the filter adds the trace to `Server-Timing` too, as the draft of Level 3 has it.
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
