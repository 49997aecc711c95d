//! A compiled [`AccessLogTraceConfig`]: what is read of a request, and how it is written.

use meshtrace_config::{ConfigError, Mistakes};
use meshtrace_envoy::filter_state;
use meshtrace_headers::{Managed, NameRefusal, written_name, written_response_name};
use meshtrace_propagation::format::Format;
use meshtrace_propagation::{OnRepeated, refuse_repeats};

use crate::config::{AccessLogTraceConfig, ResponseHeaderConfig, Source, TracerConfig};
use crate::shape::{self, Shape};

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
    /// Whether values that were joined in one line are accepted. Envoy's own tracers refuse them:
    /// they read the first line as one value.
    pub(crate) takes_joined: bool,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) response_header: Option<Box<[u8]>>,
    pub(crate) traceresponse: bool,
    pub(crate) server_timing: bool,
}

/// The kind of the proxy's tracer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TracerKind {
    /// The tracer is not known.
    Unknown,
    /// The proxy has no tracer.
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
        let mut mistakes = Mistakes::default();
        let tracer = mistakes.keep(tracer(config));
        let ids = mistakes.keep(helper_headers(config));
        let response_header = config.response_header.clone().unwrap_or_default();
        let name = mistakes.keep(response_name(&response_header));
        let shapes = mistakes.keep(shape::compile(&config.shapes));
        let compiled = tracer.zip(ids).zip(name).zip(shapes);
        let ((((tracer, formats), (trace_id_header, span_id_header)), name), shapes) =
            mistakes.finish(compiled)?;
        Ok(Self {
            trace_id_header,
            span_id_header,
            tracer,
            formats,
            spawns: config.spawn_upstream_span,
            shares: config.shared_span_context,
            on_repeated: OnRepeated::SameTrace,
            takes_joined: tracer == TracerKind::None,
            shapes,
            traceresponse: response_header.traceresponse,
            server_timing: response_header.server_timing,
            response_header: name,
        })
    }

    /// Returns this configuration, which then reads a header that came more than once as the
    /// `trace_context` beside it does. Where a tracer is named, which reads the header first,
    /// nothing changes.
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

    /// The helper headers, which are never sent on.
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

    /// Whether a response header has the trace id.
    #[must_use]
    pub fn injects_response(&self) -> bool {
        self.injects_span() || self.response_header.is_some()
    }

    /// Whether a response header has the span id too.
    #[must_use]
    pub fn injects_span(&self) -> bool {
        self.traceresponse || self.server_timing
    }
}

/// The names of the helper headers of the trace id and of the span id.
type HelperHeaders = (Option<Box<[u8]>>, Option<Box<[u8]>>);

fn helper_headers(config: &AccessLogTraceConfig) -> Result<HelperHeaders, ConfigError> {
    let mut mistakes = Mistakes::default();
    let (trace, span) = (&config.ids.trace_id_header, &config.ids.span_id_header);
    let trace_id = mistakes.keep(header_name("ids.trace_id_header", trace, written_name));
    let span_id = mistakes.keep(header_name("ids.span_id_header", span, written_name));
    let (trace_id, span_id) = mistakes.finish(trace_id.zip(span_id))?;
    let refusal = match (&trace_id, &span_id) {
        (None, Some(_)) => "only with `ids.trace_id_header`: a span id is one of its trace",
        (Some(one), Some(other)) if one == other => {
            "the same as `ids.trace_id_header`; expected a header of its own"
        }
        _ => return Ok((trace_id, span_id)),
    };
    Err(ConfigError::new("ids.span_id_header", refusal).judged_by("ids.trace_id_header"))
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

/// Reads the name of the response header. It must not be a header that `traceresponse` or
/// `server_timing` writes.
fn response_name(config: &ResponseHeaderConfig) -> Result<Option<Box<[u8]>>, ConfigError> {
    let path = "response_header";
    let name = header_name(path, &config.name, written_response_name)?;
    let others = [
        ("traceresponse", config.traceresponse),
        ("server-timing", config.server_timing),
    ];
    if !config.server_timing && name.as_deref() == Some(b"server-timing") {
        return Err(ConfigError::new(
            path,
            "`name` is \"server-timing\", whose lines the application may write too; expected \
             `server_timing: true`, which adds a line",
        ));
    }
    for (other, _) in others.into_iter().filter(|(_, is_written)| *is_written) {
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
    read: fn(&str) -> Result<Box<[u8]>, NameRefusal>,
) -> Result<Option<Box<[u8]>>, ConfigError> {
    let Some(name) = name else { return Ok(None) };
    let refuse = |refusal| ConfigError::invalid_text(path, name, &refusal);
    read(name).map(Some).map_err(refuse)
}
