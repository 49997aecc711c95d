//! Envoys with each of their tracers, and the context that an application behind them receives.

use std::sync::atomic::{AtomicU64, Ordering};

use envoy_test_harness::client::Request;
use envoy_test_harness::config::{Bootstrap, Cluster, TraceContextOption, Tracing};
use envoy_test_harness::upstream::RecordedRequest;
use envoy_test_harness::{OtlpSink, Span, ZipkinSink};

/// The request header by which the spans of a case are found.
pub const CASE: &str = "x-case";

/// A tracer of Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracer {
    /// No tracer.
    None,
    /// The OpenTelemetry tracer, which reads and writes W3C Trace Context.
    OpenTelemetry,
    /// The Zipkin tracer with `USE_B3`.
    ZipkinB3,
    /// The Zipkin tracer with `USE_B3_WITH_W3C_PROPAGATION`.
    ZipkinB3WithW3c,
}

impl Tracer {
    /// Every tracer, and the case without one.
    pub const ALL: [Self; 4] = [
        Self::None,
        Self::OpenTelemetry,
        Self::ZipkinB3,
        Self::ZipkinB3WithW3c,
    ];

    /// The value of `tracer` in the configuration of `trace_context`.
    pub fn writes(self) -> &'static str {
        match self {
            Self::None | Self::OpenTelemetry | Self::ZipkinB3WithW3c => "tracecontext",
            Self::ZipkinB3 => "b3multi",
        }
    }

    /// The tracer, in the type of the renderer.
    pub fn rendered(self) -> meshtrace_render::Tracer {
        match self {
            Self::None | Self::OpenTelemetry => meshtrace_render::Tracer::OpenTelemetry,
            Self::ZipkinB3 => meshtrace_render::Tracer::ZipkinB3,
            Self::ZipkinB3WithW3c => meshtrace_render::Tracer::ZipkinB3WithW3c,
        }
    }

    /// The tracing configuration. Every span is reported with an id of its own, as Istio configures
    /// it.
    pub fn tracing(self) -> Option<Tracing> {
        let zipkin = |option| {
            Tracing::zipkin("zipkin")
                .shared_span_context(false)
                .trace_context_option(option)
        };
        let tracing = match self {
            Self::None => return None,
            Self::OpenTelemetry => Tracing::opentelemetry_grpc("otlp", "proxy"),
            Self::ZipkinB3 => zipkin(TraceContextOption::B3),
            Self::ZipkinB3WithW3c => zipkin(TraceContextOption::B3WithW3c),
        };
        Some(tracing.request_header_tag("case", CASE))
    }
}

/// The collectors to which the tracers export.
#[derive(Debug)]
pub struct Sinks {
    otlp: OtlpSink,
    zipkin: ZipkinSink,
}

impl Sinks {
    /// Starts a collector for each protocol.
    pub fn start() -> Self {
        Self {
            otlp: OtlpSink::start().expect("an OTLP sink"),
            zipkin: ZipkinSink::start().expect("a Zipkin sink"),
        }
    }

    /// Adds the clusters of both collectors to the configuration.
    pub fn connect(&self, bootstrap: Bootstrap) -> Bootstrap {
        bootstrap
            .cluster(Cluster::http2("otlp", self.otlp.grpc_addr()))
            .cluster(Cluster::http1("zipkin", self.zipkin.address()))
    }

    /// Waits until the trace has `count` spans, and returns those of the case.
    pub fn spans(&self, tracer: Tracer, trace_id: &str, case: &str, count: usize) -> Vec<Span> {
        let mut spans = match tracer {
            Tracer::None => Vec::new(),
            Tracer::OpenTelemetry => self
                .otlp
                .wait_for_trace(trace_id, count)
                .unwrap_or_else(|error| panic!("{case}: {error}")),
            Tracer::ZipkinB3 | Tracer::ZipkinB3WithW3c => self
                .zipkin
                .wait_for_trace(trace_id, count)
                .unwrap_or_else(|error| panic!("{case}: {error}")),
        };
        spans.retain(|span| span.attribute("case") == Some(case));
        spans.sort_by_key(|span| span.start_unix_nanos);
        spans
    }

    /// Waits for the OpenTelemetry tracer's first span of the case.
    pub fn wait_for_case(&self, case: &str) -> Span {
        let is_of_case = |span: &Span| span.attribute("case") == Some(case);
        let mut count = 1;
        loop {
            let spans = self.otlp.wait_for_spans(count).expect("spans");
            count = spans.len() + 1;
            if let Some(span) = spans.into_iter().find(is_of_case) {
                return span;
            }
        }
    }

    /// The spans that have arrived from any tracer.
    pub fn all(&self) -> Vec<Span> {
        let mut spans = self.otlp.spans();
        spans.extend(self.zipkin.spans());
        spans
    }

    /// The spans that have arrived from any tracer for the case.
    pub fn arrived(&self, case: &str) -> Vec<Span> {
        let mut spans = self.all();
        spans.retain(|span| span.attribute("case") == Some(case));
        spans
    }
}

/// The ids of one caller, and of an unrelated trace.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The caller's trace id.
    pub trace_id: String,
    /// The caller's span id.
    pub span_id: String,
    /// The trace id of the unrelated trace.
    pub other_trace_id: String,
    /// The span id of the unrelated trace.
    pub other_span_id: String,
}

impl Caller {
    /// Ids that no other caller of this process has.
    pub fn fresh() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            trace_id: format!("4bf92f3577b34da6a3ce929d{count:08x}"),
            span_id: format!("00f067aa{count:08x}"),
            other_trace_id: format!("80f198ee56343ba864fe8b2a{count:08x}"),
            other_span_id: format!("e457b5a2{count:08x}"),
        }
    }

    /// A request with these header lines, in which `$T` and `$S` stand for the caller's ids, `$U`
    /// and `$V` for those of the unrelated trace.
    pub fn request(&self, case: &str, headers: &[&str]) -> Request {
        let request = Request::get("/").header(CASE, case);
        headers.iter().fold(request, |request, line| {
            let (name, value) = line.split_once(": ").expect("a header line");
            request.header(name, self.fill(value))
        })
    }

    /// The text, in which ids replace `$T`, `$S`, `$U` and `$V`.
    pub fn fill(&self, text: &str) -> String {
        text.replace("$T", &self.trace_id)
            .replace("$S", &self.span_id)
            .replace("$U", &self.other_trace_id)
            .replace("$V", &self.other_span_id)
    }
}

/// The context that an application reads in one format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The trace id, with 32 digits. Ids of 64 bits are padded.
    pub trace_id: String,
    /// The span's id.
    pub span_id: String,
    /// The decision; `None` where the format leaves it open.
    pub sampled: Option<bool>,
}

/// The formats. Each is read by an application that knows only this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// An application that reads `traceparent`.
    W3c,
    /// An application that reads `b3`.
    B3,
    /// An application that reads `x-b3-*`.
    B3Multi,
}

impl Reader {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::W3c, Self::B3, Self::B3Multi];

    /// Reads the context. `None` where the format is absent or not valid.
    pub fn read(self, request: &RecordedRequest) -> Option<Told> {
        match self {
            Self::W3c => {
                // W3C Trace Context, section 3.2: exactly one. Without a filter a caller's two go on.
                if request.header_values("traceparent").len() > 1 {
                    return None;
                }
                let text = only(request, "traceparent")?;
                let fields: Vec<_> = text.split('-').collect();
                let [_, trace_id, span_id, flags] = fields[..] else {
                    return None;
                };
                let flags = u8::from_str_radix(flags, 16).ok()?;
                told(trace_id, span_id, Some(flags & 1 == 1))
            }
            Self::B3 => {
                let text = only(request, "b3")?;
                let mut fields = text.split('-');
                let (trace_id, span_id) = (fields.next()?, fields.next()?);
                told(trace_id, span_id, sampled(fields.next()))
            }
            Self::B3Multi => {
                let trace_id = only(request, "x-b3-traceid")?;
                let span_id = only(request, "x-b3-spanid")?;
                let state = match only(request, "x-b3-flags") {
                    Some(flags) if flags == "1" => Some(flags),
                    _ => only(request, "x-b3-sampled"),
                };
                told(&trace_id, &span_id, sampled(state.as_deref()))
            }
        }
    }
}

fn only(request: &RecordedRequest, name: &str) -> Option<String> {
    let lines = request.header_values(name);
    assert!(lines.len() <= 1, "{name} left more than once: {request:?}");
    request.header_text(name)
}

fn told(trace_id: &str, span_id: &str, sampled: Option<bool>) -> Option<Told> {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let valid = matches!(trace_id.len(), 16 | 32) && span_id.len() == 16;
    (valid && is_hex(trace_id) && is_hex(span_id)).then(|| Told {
        trace_id: format!("{trace_id:0>32}"),
        span_id: span_id.to_owned(),
        sampled,
    })
}

fn sampled(state: Option<&str>) -> Option<bool> {
    state.map(|state| matches!(state, "1" | "d"))
}
