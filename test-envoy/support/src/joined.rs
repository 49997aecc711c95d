//! Measures whether caller, proxy and application are in one trace, for each way in which a context
//! arrives.

use std::collections::BTreeMap;
use std::fmt;

use envoy_test_harness::upstream::RecordedRequest;
use envoy_test_harness::{Span, SpanKind};

use crate::common::Mesh;
use crate::tracers::{Caller, Reader, Sinks, Told, Tracer};

/// The headers that a caller sends.
#[derive(Debug)]
pub struct Arrival {
    /// The title of the row in `docs/matrix.md`.
    pub title: &'static str,
    /// The headers. `$T` and the like stand for ids in them.
    pub headers: &'static [&'static str],
    /// The number of traces that the headers name.
    pub names: Names,
}

/// The number of traces that the headers name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// The headers name no trace.
    NoTrace,
    /// The headers name the caller's trace.
    OneTrace,
    /// W3C names the trace of the caller, B3 another trace.
    TwoTraces,
}

/// Every way in which a context arrives.
pub static ARRIVALS: [Arrival; 10] = [
    Arrival {
        title: "nothing",
        headers: &[],
        names: Names::NoTrace,
    },
    Arrival {
        title: "W3C",
        headers: &["traceparent: 00-$T-$S-01", "tracestate: a=1"],
        names: Names::OneTrace,
    },
    Arrival {
        title: "W3C, in two lines",
        headers: &["traceparent: 00-$T-$S-01", "traceparent: 00-$T-$S-01"],
        names: Names::OneTrace,
    },
    Arrival {
        title: "B3, `b3`",
        headers: &["b3: $T-$S-1"],
        names: Names::OneTrace,
    },
    Arrival {
        title: "B3, `x-b3-*`",
        headers: &["x-b3-traceid: $T", "x-b3-spanid: $S", "x-b3-sampled: 1"],
        names: Names::OneTrace,
    },
    Arrival {
        title: "both, agreeing",
        headers: &[
            "traceparent: 00-$T-$S-01",
            "x-b3-traceid: $T",
            "x-b3-spanid: $S",
            "x-b3-sampled: 1",
        ],
        names: Names::OneTrace,
    },
    Arrival {
        title: "both, disagreeing",
        headers: &[
            "traceparent: 00-$T-$S-01",
            "x-b3-traceid: $U",
            "x-b3-spanid: $V",
            "x-b3-sampled: 1",
        ],
        names: Names::TwoTraces,
    },
    Arrival {
        title: "W3C, and malformed B3",
        headers: &["traceparent: 00-$T-$S-01", "b3: malformed"],
        names: Names::OneTrace,
    },
    Arrival {
        title: "B3, and malformed W3C",
        headers: &["traceparent: malformed", "b3: $T-$S-1"],
        names: Names::OneTrace,
    },
    Arrival {
        title: "malformed W3C and B3",
        headers: &["traceparent: malformed", "b3: malformed"],
        names: Names::NoTrace,
    },
];

/// Whether a request is in one trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Caller, proxy and application are in one trace.
    Yes,
    /// Caller, proxy and an application that reads W3C are in one trace; one that reads B3 is not.
    OnlyW3cApp,
    /// Caller, proxy and an application that reads B3 are in one trace; one that reads W3C is not.
    OnlyB3App,
    /// All are in the trace that B3 names.
    OtherTrace,
    /// They are not in one trace.
    No,
    /// There is no trace.
    NoTrace,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "**yes**",
            Self::OnlyW3cApp => "W3C app only",
            Self::OnlyB3App => "B3 app only",
            Self::OtherTrace => "B3's trace",
            Self::No => "no",
            Self::NoTrace => "no trace",
        })
    }
}

impl Cell {
    /// Whether the request that `arrival` describes is in one trace.
    pub fn of(arrival: &Arrival, tracer: Tracer, caller: &Caller, seen: &Seen) -> Self {
        let context = |trace_id: &String, span_id: &String| Told {
            trace_id: trace_id.clone(),
            span_id: span_id.clone(),
            sampled: Some(true),
        };
        let callers = context(&caller.trace_id, &caller.span_id);
        let other = context(&caller.other_trace_id, &caller.other_span_id);
        match arrival.names {
            Names::NoTrace => seen.joined(tracer, None),
            Names::OneTrace => seen.joined(tracer, Some(&callers)),
            Names::TwoTraces => match seen.joined(tracer, Some(&other)) {
                Self::Yes => Self::OtherTrace,
                _ => seen.joined(tracer, Some(&callers)),
            },
        }
    }
}

/// The result of one request.
#[derive(Debug)]
pub struct Seen {
    /// What the upstream received.
    pub request: RecordedRequest,
    /// The proxy's spans.
    pub spans: Vec<Span>,
}

impl Seen {
    /// Whether caller, proxy and application are in one trace.
    fn joined(&self, tracer: Tracer, caller: Option<&Told>) -> Cell {
        let span = |kind| self.spans.iter().find(|span| span.kind == kind);
        let expected = match (tracer, span(SpanKind::Server), span(SpanKind::Client)) {
            (Tracer::None, _, _) => caller.cloned(),
            (_, Some(server), Some(client)) => {
                let continued = match caller {
                    None => server.parent_span_id.is_none(),
                    Some(caller) => {
                        server.trace_id == caller.trace_id
                            && server.parent_span_id.as_ref() == Some(&caller.span_id)
                    }
                };
                (continued && client.is_child_of(server)).then(|| Told {
                    trace_id: client.trace_id.clone(),
                    span_id: client.span_id.clone(),
                    sampled: Some(true),
                })
            }
            _ => None,
        };
        let told = Reader::ALL.map(|reader| reader.read(&self.request));
        let Some(expected) = expected else {
            let nobody = caller.is_none() && self.spans.is_empty() && told == [const { None }; 3];
            return if nobody { Cell::NoTrace } else { Cell::No };
        };
        let [w3c, b3, b3multi] = told.map(|told| told.map(|told| told == expected));
        // An application may prefer either form of B3, so both must be right.
        let b3_app = [b3, b3multi].contains(&Some(true)) && ![b3, b3multi].contains(&Some(false));
        match (w3c == Some(true), b3_app) {
            (true, true) => Cell::Yes,
            (true, false) => Cell::OnlyW3cApp,
            (false, true) => Cell::OnlyB3App,
            (false, false) => Cell::No,
        }
    }
}

/// Sends every arrival to every listener. Returns the results in the order of [`ARRIVALS`], by the
/// name of the listener.
pub fn measure(
    mesh: &Mesh,
    sinks: &Sinks,
    listeners: &[(String, Tracer)],
) -> BTreeMap<String, Vec<Cell>> {
    let send = |name: &str, arrival: &Arrival| {
        let caller = Caller::fresh();
        let case = format!("{name} {} {}", arrival.title, caller.trace_id);
        let request = caller.request(&case, arrival.headers);
        let request = mesh.pass(&mut mesh.connect(name), &request);
        (case, caller, request)
    };
    let mut exchanges = Vec::new();
    for listener in listeners {
        for arrival in &ARRIVALS {
            exchanges.push((listener, arrival, send(&listener.0, arrival)));
        }
    }
    // The spans of a tracer arrive in order. After the spans of these requests no others will come.
    let [nothing, ..] = &ARRIVALS;
    for (name, tracer) in listeners {
        let (case, _, request) = send(name, nothing);
        let told = Reader::ALL.iter().find_map(|reader| reader.read(&request));
        if let Some(told) = told {
            sinks.spans(*tracer, &told.trace_id, &case, 2);
        }
    }
    let mut cells: BTreeMap<String, Vec<Cell>> = BTreeMap::new();
    for ((name, tracer), arrival, (case, caller, request)) in exchanges {
        let spans = sinks.arrived(&case);
        let cell = Cell::of(arrival, *tracer, &caller, &Seen { request, spans });
        cells.entry(name.clone()).or_default().push(cell);
    }
    cells
}
