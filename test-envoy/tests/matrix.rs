//! Which pieces make one trace of what arrives, for every tracer, as `docs/matrix.md` says it.

mod common;
mod tracers;

use common::{Mesh, trace_context};
use envoy_test_harness::config::{Bootstrap, HttpConnectionManager, Listener, Route};
use envoy_test_harness::upstream::RecordedRequest;
use envoy_test_harness::{EnvoyBinary, Span, SpanKind};
use meshtrace_propagation::TraceContextConfig;
use meshtrace_render::{self as render, early_mutation};
use serde_json::json;
use std::fmt;
use std::sync::LazyLock;
use std::thread;
use tracers::{Caller, Reader, Sinks, Told, Tracer};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/matrix.md");
const UPDATE: &str = "make build && UPDATE_MATRIX=1 cargo test -p envoy-test-harness --test matrix";

/// The pieces in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pieces {
    Nothing,
    Downstream,
    Upstream,
    EarlyAndUpstream,
}

impl Pieces {
    /// Without a tracer there is nothing to prepare early.
    fn beside(tracer: Tracer) -> &'static [Self] {
        match tracer {
            Tracer::None => &[Self::Nothing, Self::Downstream, Self::Upstream],
            Tracer::OpenTelemetry | Tracer::ZipkinB3 | Tracer::ZipkinB3WithW3c => &[
                Self::Nothing,
                Self::Downstream,
                Self::Upstream,
                Self::EarlyAndUpstream,
            ],
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Nothing => "no piece",
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
            Self::EarlyAndUpstream => "early + upstream",
        }
    }

    fn put(self, tracer: Tracer, manager: HttpConnectionManager) -> HttpConnectionManager {
        match self {
            Self::Nothing => manager,
            Self::Downstream => manager.filter(trace_context("")),
            Self::Upstream => manager.upstream_filter(trace_context(&format!(
                r#"{{"placement": "upstream", "tracer": "{}"}}"#,
                tracer.writes()
            ))),
            Self::EarlyAndUpstream => {
                let manager = Self::Upstream.put(tracer, manager);
                match rendered_for(tracer) {
                    None => manager,
                    Some(tracer) => {
                        let early = early_mutation(&TraceContextConfig::default(), tracer)
                            .expect("an early header mutation");
                        let removed = json!({
                            "request_headers_to_remove": early.request_headers_to_remove,
                        });
                        manager
                            .early_header_mutation(early.extension)
                            .virtual_host(removed)
                    }
                }
            }
        }
    }
}

/// The tracer as the renderer knows it.
fn rendered_for(tracer: Tracer) -> Option<render::Tracer> {
    match tracer {
        Tracer::None => None,
        Tracer::OpenTelemetry => Some(render::Tracer::OpenTelemetry),
        Tracer::ZipkinB3 => Some(render::Tracer::ZipkinB3),
        Tracer::ZipkinB3WithW3c => Some(render::Tracer::ZipkinB3WithW3c),
    }
}

fn title(tracer: Tracer) -> &'static str {
    match tracer {
        Tracer::None => "No tracer",
        Tracer::OpenTelemetry => "OpenTelemetry",
        Tracer::ZipkinB3 => "Zipkin, `USE_B3` (its default)",
        Tracer::ZipkinB3WithW3c => "Zipkin, `USE_B3_WITH_W3C_PROPAGATION`",
    }
}

/// What a caller sends.
struct Arrival {
    title: &'static str,
    headers: &'static [&'static str],
    /// The formats that name a trace; which of them it is, where they disagree.
    names: Names,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    NoTrace,
    OneTrace,
    /// W3C that of the caller, B3 another one.
    TwoTraces,
}

static ARRIVALS: [Arrival; 9] = [
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

/// Whether it is one trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Yes,
    OnlyW3cApp,
    OnlyB3App,
    OtherTrace,
    No,
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
    fn of(arrival: &Arrival, tracer: Tracer, caller: &Caller, seen: &Seen) -> Self {
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

/// What came out of one request.
struct Seen {
    request: RecordedRequest,
    spans: Vec<Span>,
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
        // Whichever shape of B3 an application prefers must be right.
        let b3_app = [b3, b3multi].contains(&Some(true)) && ![b3, b3multi].contains(&Some(false));
        match (w3c == Some(true), b3_app) {
            (true, true) => Cell::Yes,
            (true, false) => Cell::OnlyW3cApp,
            (false, true) => Cell::OnlyB3App,
            (false, false) => Cell::No,
        }
    }
}

/// Where a cell stands in the tables.
struct Place {
    tracer: Tracer,
    arrival: &'static Arrival,
    pieces: Pieces,
}

/// Row by row.
fn places() -> Vec<Place> {
    let row = |tracer, arrival| {
        Pieces::beside(tracer).iter().map(move |pieces| Place {
            tracer,
            arrival,
            pieces: *pieces,
        })
    };
    let rows = Tracer::ALL
        .iter()
        .flat_map(|tracer| ARRIVALS.iter().map(|arrival| (*tracer, arrival)));
    rows.flat_map(|(tracer, arrival)| row(tracer, arrival))
        .collect()
}

/// The cells of one Envoy, in the order of [`places`].
fn measure(envoy: &EnvoyBinary) -> Vec<Cell> {
    let listener = |tracer: Tracer, pieces: Pieces| format!("{tracer:?} {pieces:?}");
    let sinks = Sinks::start();
    let mut bootstrap = sinks.connect(Bootstrap::new());
    for tracer in Tracer::ALL {
        for &pieces in Pieces::beside(tracer) {
            let manager =
                HttpConnectionManager::new().route(Route::prefix("/").cluster("upstream"));
            let manager = match tracer.tracing() {
                None => manager,
                Some(tracing) => manager.tracing(tracing.spawn_upstream_span(true)),
            };
            let manager = pieces.put(tracer, manager);
            let name = listener(tracer, pieces);
            bootstrap = bootstrap.listener(Listener::http(&name, manager));
        }
    }
    let mesh = Mesh::with(envoy, bootstrap);

    let send = |tracer, pieces, arrival: &Arrival| {
        let name = listener(tracer, pieces);
        let caller = Caller::new();
        let case = format!("{name} {} {}", arrival.title, caller.trace_id);
        let request = caller.request(&case, arrival.headers);
        let request = mesh.pass(&mut mesh.connect(&name), &request);
        (case, caller, request)
    };
    let exchanges: Vec<_> = places()
        .into_iter()
        .map(|place| {
            let exchange = send(place.tracer, place.pieces, place.arrival);
            (place, exchange)
        })
        .collect();
    // A tracer's spans arrive in order: after these, there are no others to come.
    let [nothing, ..] = &ARRIVALS;
    for tracer in Tracer::ALL {
        for &pieces in Pieces::beside(tracer) {
            let (case, _, request) = send(tracer, pieces, nothing);
            let told = Reader::ALL.iter().find_map(|reader| reader.read(&request));
            if let Some(told) = told {
                sinks.spans(tracer, &told.trace_id, &case, 2);
            }
        }
    }
    exchanges
        .into_iter()
        .map(|(place, (case, caller, request))| {
            let spans = sinks.arrived(&case);
            let seen = Seen { request, spans };
            Cell::of(place.arrival, place.tracer, &caller, &seen)
        })
        .collect()
}

/// What every supported Envoy does, oldest first.
static MEASURED: LazyLock<Vec<(String, Vec<Cell>)>> = LazyLock::new(|| {
    let envoys = EnvoyBinary::all_supported().expect("the supported Envoys");
    thread::scope(|scope| {
        let running: Vec<_> = envoys
            .iter()
            .map(|envoy| (minor(envoy), scope.spawn(|| measure(envoy))))
            .collect();
        running
            .into_iter()
            .map(|(version, cells)| (version, cells.join().expect("a measured Envoy")))
            .collect()
    })
});

/// `1.40` of `1.40.0`.
fn minor(envoy: &EnvoyBinary) -> String {
    let version = envoy.reported_version();
    let minor = version.rsplit_once('.').map_or(version, |(minor, _)| minor);
    minor.to_owned()
}

fn render() -> String {
    let versions: Vec<_> = MEASURED.iter().map(|(version, _)| &version[..]).collect();
    let mut text = format!(
        "<!-- Generated by test-envoy/tests/matrix.rs. To write it anew: {UPDATE} -->\n{}\n\
         <!-- matrix:begin -->\n",
        include_str!("matrix/head.md").replace("{versions}", &versions.join(", "))
    );
    let mut cells = 0..;
    for tracer in Tracer::ALL {
        let pieces = Pieces::beside(tracer);
        let titles: Vec<_> = pieces.iter().map(|pieces| pieces.title()).collect();
        text += &format!(
            "\n**{}**\n\n| arrives | {} |\n{}|\n",
            title(tracer),
            titles.join(" | "),
            "|---".repeat(pieces.len() + 1)
        );
        for arrival in &ARRIVALS {
            let row: Vec<_> = cells.by_ref().take(pieces.len()).map(merged).collect();
            text += &format!("| {} | {} |\n", arrival.title, row.join(" | "));
        }
    }
    text + "\n<!-- matrix:end -->\n"
}

/// One cell for all Envoys: what it is everywhere, or where it is what.
fn merged(cell: usize) -> String {
    let mut groups: Vec<(Cell, Vec<&str>)> = Vec::new();
    for (version, cells) in MEASURED.iter() {
        match groups.iter_mut().find(|(known, _)| *known == cells[cell]) {
            Some((_, versions)) => versions.push(version),
            None => groups.push((cells[cell], vec![version])),
        }
    }
    match &groups[..] {
        [(cell, _)] => cell.to_string(),
        groups => groups
            .iter()
            .map(|(cell, versions)| format!("{cell} ({})", versions.join(", ")))
            .collect::<Vec<_>>()
            .join("; "),
    }
}

#[test]
fn early_and_upstream_together_make_one_trace_of_all_that_arrives() {
    for (version, cells) in MEASURED.iter() {
        for (place, cell) in places().iter().zip(cells) {
            if place.pieces == Pieces::EarlyAndUpstream {
                let (tracer, arrival) = (place.tracer, place.arrival.title);
                assert_eq!(*cell, Cell::Yes, "{version}, {tracer:?}: {arrival}");
            }
        }
    }
}

#[test]
fn the_matrix_says_what_every_envoy_does() {
    let actual = render();
    if std::env::var_os("UPDATE_MATRIX").is_some() {
        std::fs::write(PATH, &actual).expect("docs/matrix.md is written");
        return;
    }
    let stored = std::fs::read_to_string(PATH).unwrap_or_default();
    let (mut actual, mut stored) = (actual.lines(), stored.lines());
    for line in 1.. {
        let (measured, written) = (actual.next(), stored.next());
        assert_eq!(
            written, measured,
            "docs/matrix.md (left) is stale in line {line}; to write it anew: {UPDATE}"
        );
        if measured.is_none() {
            return;
        }
    }
}
