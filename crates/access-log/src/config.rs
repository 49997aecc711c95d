//! The configuration of `access_log` as it is written.

use meshtrace_config::{Key, Kind, Read, RequestHeaders, Value, object, words};
use meshtrace_propagation::format::Format;

/// The configuration of `access_log_trace.wasm`. Every key is optional.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "lowercase")
)]
pub enum Source {
    /// The headers of `ids`; without them the headers that the tracer has written; without those
    /// the headers of the caller.
    #[default]
    Auto,
}

/// The helper headers, into which a step before the filter copies the proxy's own ids.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
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

object!(AccessLogTraceConfig {
    source,
    ids,
    tracer,
    extract,
    spawn_upstream_span,
    shared_span_context,
    shapes,
    response_header,
    request_headers,
});

words!(Source { Auto = "auto" });

object!(IdsConfig {
    trace_id_header,
    span_id_header,
});

object!(ResponseHeaderConfig {
    name,
    traceresponse,
    server_timing,
} or ResponseHeaderConfig::named, expected
    "the name of a header, or an object of `name`, `traceresponse` and `server_timing`");

impl ResponseHeaderConfig {
    fn named(name: Value<'_>) -> Self {
        Self {
            name: Read::read(name),
            ..Self::default()
        }
    }
}

impl Read for TracerConfig {
    fn read(value: Value<'_>) -> Self {
        let name = value.quiet_text();
        let format = name.as_deref().and_then(Format::from_name);
        match (value.kind(), name.as_deref(), format) {
            (Kind::List, ..) => Self::Formats(Read::read(value)),
            (_, Some("none"), _) => Self::None,
            (_, _, Some(format)) => Self::Formats(vec![format]),
            _ => {
                let names = Format::NAMES;
                value.refuse_form(&format!(
                    "\"none\", a format ({names}) or a list of formats"
                ));
                Self::None
            }
        }
    }
}

impl Read for ShapeConfig {
    fn read(value: Value<'_>) -> Self {
        let mut project = Project::default();
        match value.quiet_text().as_deref() {
            Some("datadog") => return Self::Datadog,
            Some("b3_64") => return Self::B3Bits64,
            None if value.kind() == Kind::Object => {
                value.object(&[Key::required("gcp")], &mut |_, gcp| {
                    project = Read::read(gcp)
                });
            }
            _ => value.refuse_form("\"datadog\", \"b3_64\" or {\"gcp\": {\"project\": …}}"),
        }
        Self::Gcp {
            project: project.project,
        }
    }
}

/// The value of `gcp`.
#[derive(Default)]
struct Project {
    project: String,
}

object!(Project { project: required });
