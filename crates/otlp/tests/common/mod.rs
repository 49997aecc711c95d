//! A collector in memory.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;

use meshtrace_headers::{Headers, encode};
use meshtrace_otlp::{
    Attributes, CallError, Exporter, HttpCall, HttpCallResponse, Kind, Report, ReportConfig, Span,
    Status,
};
use meshtrace_propagation::{SpanId, TraceId};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;
use prost::Message;

pub(crate) fn exporter(json: &str) -> Exporter {
    let config: ReportConfig = meshtrace_config::read(json.as_bytes()).expect("a configuration");
    Exporter::new(Report::new(&config).expect("a report"), &|_| None)
}

pub(crate) fn ids(trace: u128, id: u64, parent: Option<u64>) -> (TraceId, SpanId, Option<SpanId>) {
    let trace_id = TraceId::new(trace).expect("a trace id");
    let span_id = SpanId::new(id).expect("a span id");
    (trace_id, span_id, parent.and_then(SpanId::new))
}

pub(crate) fn span(id: u64, attributes: &Attributes) -> Span<'static> {
    let (trace_id, span_id, parent) = ids(7, id, None);
    // Leaked: a test's spans live as long as it does.
    let attributes: &'static Attributes = Box::leak(Box::new(attributes.clone()));
    Span {
        trace_id,
        span_id,
        parent,
        parent_is_remote: false,
        sampled: true,
        tracestate: b"",
        name: b"GET",
        kind: Kind::Server,
        start: 1,
        end: 2,
        attributes: Box::leak(Box::new([attributes])),
        status: Status::Unset,
    }
}

/// Pushes so many spans, at the time 0.
pub(crate) fn push(exporter: &mut Exporter, spans: u64) {
    let attributes = Attributes::new();
    for id in 1..=spans {
        exporter.push(&span(id, &attributes), 0);
    }
}

/// A call as the host was asked to make it.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) cluster: String,
    pub(crate) headers: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Made {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let headers = Headers::parse(&self.headers).expect("a header block");
        let mut lines = headers.lines(name.as_bytes());
        lines
            .next()
            .map(|value| std::str::from_utf8(value).expect("text"))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Collector {
    pub(crate) calls: Vec<Made>,
    /// The tokens of the calls that are not answered.
    pub(crate) open: Vec<u32>,
    /// What it answers instead of making a call.
    pub(crate) refuse: Option<CallError>,
}

impl Collector {
    pub(crate) fn take(&mut self, call: &HttpCall<'_>) -> Result<u32, CallError> {
        if let Some(refused) = self.refuse {
            return Err(refused);
        }
        let token = u32::try_from(self.calls.len()).expect("few calls");
        self.calls.push(Made {
            cluster: call.cluster.to_owned(),
            headers: call.headers.to_vec(),
            body: call.body.to_vec(),
        });
        self.open.push(token);
        Ok(token)
    }
}

pub(crate) fn decode(call: &Made, is_grpc: bool) -> ExportTraceServiceRequest {
    let message = if is_grpc {
        let length = u32::from_be_bytes(call.body[1..5].try_into().expect("four bytes"));
        assert_eq!(call.body[0], 0);
        assert_eq!(length as usize, call.body.len() - 5);
        &call.body[5..]
    } else {
        &call.body[..]
    };
    ExportTraceServiceRequest::decode(message).expect("OTLP")
}

pub(crate) fn spans_of(call: &Made) -> usize {
    let request = decode(call, false);
    request.resource_spans[0].scope_spans[0].spans.len()
}

/// Answers with `status` and an empty body; 0 is no answer.
pub(crate) fn answer(
    exporter: &mut Exporter,
    token: u32,
    status: u16,
    now: u64,
    collector: &mut Collector,
) {
    let lines = match status {
        0 => vec![],
        status => vec![(":status", status.to_string())],
    };
    reply(exporter, token, &lines, b"", &[], now, collector);
}

pub(crate) fn reply(
    exporter: &mut Exporter,
    token: u32,
    headers: &[(&str, String)],
    body: &[u8],
    trailers: &[(&str, String)],
    now: u64,
    collector: &mut Collector,
) {
    let (headers, trailers) = (encode(headers), encode(trailers));
    let answer = HttpCallResponse {
        headers: Headers::parse(&headers).expect("headers"),
        body,
        trailers: Headers::parse(&trailers).expect("trailers"),
        now,
        wall: now,
    };
    exporter.on_http_call_response(token, &answer, &mut |call| collector.take(call));
}

pub(crate) fn counts(exporter: &mut Exporter) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    exporter.take_counts(|counter, amount| {
        let name = counter.metric().strip_prefix("meshtrace.report.");
        counts.insert(name.expect("the stage's prefix"), amount);
    });
    counts
}

/// Something that happens to an exporter.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Push(u8),
    Wake,
    Answer(u16),
    Later(u64),
    Refuse(u8),
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..9_u8).prop_map(Step::Push),
        4 => Just(Step::Wake),
        4 => prop::sample::select(vec![200, 200, 200, 0, 400, 404, 429, 500, 503, 504]).prop_map(Step::Answer),
        3 => prop::sample::select(vec![1_000_000, 100_000_000, 1_000_000_000, 60_000_000_000, 400_000_000_000]).prop_map(Step::Later),
        1 => (0..3_u8).prop_map(Step::Refuse),
    ]
}

/// Returns how many spans were pushed.
pub(crate) fn run(
    step: Step,
    exporter: &mut Exporter,
    collector: &mut Collector,
    now: &mut u64,
    attributes: &Attributes,
) -> u64 {
    match step {
        Step::Push(spans) => {
            for id in 1..=spans {
                exporter.push(&span(id.into(), attributes), *now);
            }
            return spans.into();
        }
        Step::Wake => exporter.on_tick(*now, &mut |call| collector.take(call)),
        Step::Answer(status) => {
            if !collector.open.is_empty() {
                let token = collector.open.remove(0);
                answer(exporter, token, status, *now, collector);
            }
        }
        Step::Later(nanos) => *now += nanos,
        Step::Refuse(which) => {
            collector.refuse = match which {
                0 => None,
                1 => Some(CallError::UnknownCluster),
                _ => Some(CallError::Other),
            };
        }
    }
    0
}
