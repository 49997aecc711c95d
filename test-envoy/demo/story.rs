//! What is run and what must come of it, as data.

use std::collections::BTreeSet;

use envoy_test_harness::expect::{self, SpanExpectation};
use envoy_test_harness::{Span, SpanKind};

use crate::apps::App;

pub(crate) const STOREFRONT: App = App {
    name: "storefront",
    propagator: "b3multi",
    next: "PAYMENTS_URL",
};
pub(crate) const PAYMENTS: App = App {
    name: "payments",
    propagator: "tracecontext",
    next: "STOREFRONT_URL",
};

/// Their names as services; the spans' too.
pub(crate) const GATEWAY: &str = "gateway";
pub(crate) const SIDECAR: &str = "sidecar";

/// The request that the client sends to the gateway.
pub(crate) const PATH: &str = "/checkout";

/// What the request passes, and the format that each of them speaks; the sidecar is that of
/// payments.
pub(crate) const STATIONS: [(&str, &str); 7] = [
    ("client", ""),
    (GATEWAY, "W3C"),
    (STOREFRONT.name, "B3"),
    (SIDECAR, "B3"),
    (PAYMENTS.name, "W3C"),
    (SIDECAR, "B3"),
    (STOREFRONT.name, "B3"),
];

/// Who they are.
pub(crate) const CAST: [(&str, &str); 4] = [
    (
        GATEWAY,
        "Envoy with the OpenTelemetry tracer: reads and writes W3C only",
    ),
    (
        STOREFRONT.name,
        "Flask with the OpenTelemetry SDK, OTEL_PROPAGATORS=b3multi: B3 only",
    ),
    (
        SIDECAR,
        "Envoy with the Zipkin tracer: B3 only; every request to and from payments passes it",
    ),
    (
        PAYMENTS.name,
        "Flask with the OpenTelemetry SDK, OTEL_PROPAGATORS=tracecontext: W3C only",
    ),
];

/// What is going to be shown.
pub(crate) const PLAN: &str = "Four acts: as they are; with trace_context.wasm beside the proxies' \
    tracers; with mesh_tracing.wasm in the place of those; with libmeshtrace.so where those stand, and no \
    filter. Every span that any of them exports is drawn: █ applications, ━ proxies.";

/// What to do when it is over, behind the page.
pub(crate) const NEXT: [&str; 3] = [
    "an Envoy of yours, or Istio, or Envoy Gateway: docs/getting-started.md",
    "which pieces you need: docs/choose.md, or answer the questions of: dist/meshtrace init",
    "a whole system with Collector, Jaeger and Prometheus: examples/walkthrough/",
];

/// What is added to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    GatewayFilter,
    SidecarFilter,
    SidecarMutation,
    /// The tracer of both proxies, in the place of their own.
    Tracer,
    /// The same as a module of Envoy, where their own tracers stand.
    Native,
}

impl Piece {
    /// Those that stand beside the proxies' own tracers.
    pub(crate) const BESIDE: [Self; 3] = [
        Self::GatewayFilter,
        Self::SidecarFilter,
        Self::SidecarMutation,
    ];

    /// Whether these are a tracer in the place of the proxies' own.
    pub(crate) fn is_tracer(pieces: &[Self]) -> bool {
        pieces.contains(&Self::Tracer) || pieces.contains(&Self::Native)
    }

    /// What it is and where.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GatewayFilter => "trace_context.wasm behind the gateway's tracer",
            Self::SidecarFilter => "trace_context.wasm behind the sidecar's tracer",
            Self::SidecarMutation => "early header mutation before the sidecar's tracer",
            Self::Tracer => "mesh_tracing.wasm in gateway and sidecar",
            Self::Native => "libmeshtrace.so in gateway and sidecar",
        }
    }

    /// What it does, and what comes of it.
    pub(crate) fn effect(self) -> &'static str {
        match self {
            Self::GatewayFilter => "adds B3 to its W3C: storefront sees the gateway",
            Self::SidecarFilter => "adds W3C to its B3: payments sees the sidecar",
            Self::SidecarMutation => "makes B3 of W3C: the sidecar sees payments",
            Self::Tracer => "is the tracer of both",
            Self::Native => "is Envoy's own tracer in both",
        }
    }
}

/// One run of the request.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) title: &'static str,
    pub(crate) pieces: &'static [Piece],
    /// What to say before.
    pub(crate) intro: &'static str,
    /// What to say when the spans are as expected.
    pub(crate) text: &'static str,
}

pub(crate) const ACTS: [Act; 4] = [
    Act {
        title: "Without the filters",
        pieces: &[],
        intro: "",
        text: "Not joined, four traces: storefront does not see the gateway, nor do payments and the sidecar see each other.",
    },
    Act {
        title: "With the filters",
        pieces: &Piece::BESIDE,
        intro: "The applications run on as they are; the proxies, while they run, get",
        text: "Joined, one trace, every parent right, the proxies' own spans included.",
    },
    Act {
        title: "One plugin does everything",
        pieces: &[Piece::Tracer],
        intro: "What act 2 added is gone, and the proxies' own tracers are off. While they run, they get",
        text: "Joined, one trace, every parent right; the spans of gateway and sidecar are the plugin's.",
    },
    Act {
        title: "The same without a filter",
        pieces: &[Piece::Native],
        intro: "What act 3 added is gone. Envoy's own tracer is a module, with the same configuration. While they run, they get",
        text: "Joined, one trace, every parent right; no filter runs, and nothing edits a header before or behind the tracer.",
    },
];

/// A span that the request must leave behind.
#[derive(Debug)]
struct Expected {
    role: Role,
    parent: Parent,
}

/// The span whose child it is.
#[derive(Debug)]
enum Parent {
    Nobody,
    Always(Role),
    /// Only with the piece, or the tracer; without them the span begins a trace of its own.
    With(Piece, Role),
}

/// How the story tells one span of the request from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Role {
    service: &'static str,
    kind: SpanKind,
    name: &'static str,
}

const fn server(service: &'static str, name: &'static str) -> Role {
    let kind = SpanKind::Server;
    Role {
        service,
        kind,
        name,
    }
}

const fn client(service: &'static str, name: &'static str) -> Role {
    let kind = SpanKind::Client;
    Role {
        service,
        kind,
        name,
    }
}

impl Role {
    /// The same with these pieces: Envoy's tracers name spans after the route's operation, the
    /// plugin and the module after the method.
    fn with(self, pieces: &[Piece]) -> Self {
        let of_proxy = [GATEWAY, SIDECAR].contains(&self.service);
        match of_proxy && Piece::is_tracer(pieces) {
            true => Self {
                name: "GET",
                ..self
            },
            false => self,
        }
    }

    fn expectation(self) -> SpanExpectation {
        let span = expect::span().of_service(self.service);
        span.of_kind(self.kind).named(self.name)
    }
}

/// The operations of the proxies' routes, by which their spans are named.
pub(crate) const TO_STOREFRONT: &str = "to storefront";
pub(crate) const TO_PAYMENTS: &str = "to payments";

const ENTRANCE: Role = server(GATEWAY, TO_STOREFRONT);
/// Envoy names the span of an attempt after the cluster.
const ATTEMPT: Role = client(GATEWAY, "router storefront egress");
const CHECKOUT: Role = server(STOREFRONT.name, "GET /checkout");
const CALL_PAYMENTS: Role = client(STOREFRONT.name, "GET");
const INBOUND: Role = server(SIDECAR, TO_PAYMENTS);
const CHARGE: Role = server(PAYMENTS.name, "GET /charge");
const CALL_STOREFRONT: Role = client(PAYMENTS.name, "GET");
const OUTBOUND: Role = client(SIDECAR, TO_STOREFRONT);
const ORDER: Role = server(STOREFRONT.name, "GET /order");

/// All spans, in the order in which they begin.
const SPANS: [Expected; 9] = [
    Expected {
        role: ENTRANCE,
        parent: Parent::Nobody,
    },
    Expected {
        role: ATTEMPT,
        parent: Parent::Always(ENTRANCE),
    },
    Expected {
        role: CHECKOUT,
        parent: Parent::With(Piece::GatewayFilter, ATTEMPT),
    },
    Expected {
        role: CALL_PAYMENTS,
        parent: Parent::Always(CHECKOUT),
    },
    Expected {
        role: INBOUND,
        parent: Parent::Always(CALL_PAYMENTS),
    },
    Expected {
        role: CHARGE,
        parent: Parent::With(Piece::SidecarFilter, INBOUND),
    },
    Expected {
        role: CALL_STOREFRONT,
        parent: Parent::Always(CHARGE),
    },
    Expected {
        role: OUTBOUND,
        parent: Parent::With(Piece::SidecarMutation, CALL_STOREFRONT),
    },
    Expected {
        role: ORDER,
        parent: Parent::Always(OUTBOUND),
    },
];

/// The number of spans that the services, or those of them that the condition picks, leave behind.
pub(crate) fn spans_of(picked: impl Fn(&str) -> bool) -> usize {
    SPANS
        .iter()
        .filter(|span| picked(span.role.service))
        .count()
}

/// The number of traces that the request must be with these pieces.
pub(crate) fn traces(pieces: &[Piece]) -> usize {
    SPANS
        .iter()
        .filter(|span| span.parent.with(pieces).is_none())
        .count()
}

impl Parent {
    fn with(&self, pieces: &[Piece]) -> Option<Role> {
        match *self {
            Self::Always(role) => Some(role),
            Self::With(piece, role) if pieces.contains(&piece) || Piece::is_tracer(pieces) => {
                Some(role)
            }
            Self::With(..) | Self::Nobody => None,
        }
    }
}

/// The span of the request at its entrance.
pub(crate) fn entrance<'a>(pieces: &[Piece], spans: &'a [Span]) -> Option<&'a Span> {
    let entrance = ENTRANCE.with(pieces).expectation();
    entrance.all_in(spans).first().copied()
}

/// Whether the spans are those of the story with these pieces; if not, a sentence that says which
/// is not.
pub(crate) fn check(pieces: &[Piece], spans: &[Span]) -> Result<(), String> {
    let mut traces = BTreeSet::new();
    for expected in &SPANS {
        let role = expected.role.with(pieces);
        let span = only(spans, role)?;
        let Some(parent) = expected.parent.with(pieces) else {
            if let Some(parent) = &span.parent_span_id {
                return Err(format!(
                    "{} should begin a trace and has the parent {parent}.",
                    say(role)
                ));
            }
            if !traces.insert(&span.trace_id) {
                return Err(format!("{} should begin a trace of its own.", say(role)));
            }
            continue;
        };
        let parent = parent.with(pieces);
        let wanted = only(spans, parent)?;
        if span.trace_id != wanted.trace_id {
            return Err(format!(
                "{} should be in the trace of {}, {}; it is in {}.",
                say(role),
                say(parent),
                wanted.trace_id,
                span.trace_id
            ));
        }
        if span.parent_span_id.as_ref() != Some(&wanted.span_id) {
            return Err(format!(
                "{} should be a child of {}, {}; its parent is {}.",
                say(role),
                say(parent),
                wanted.span_id,
                span.parent_span_id.as_deref().unwrap_or("missing")
            ));
        }
    }
    if spans.len() == SPANS.len() {
        Ok(())
    } else {
        Err(format!(
            "The request should leave {} spans and left {}.",
            SPANS.len(),
            spans.len()
        ))
    }
}

fn only(spans: &[Span], role: Role) -> Result<&Span, String> {
    match role.expectation().all_in(spans)[..] {
        [span] => Ok(span),
        [] => Err(format!("{} did not arrive.", say(role))),
        _ => Err(format!("{} arrived more than once.", say(role))),
    }
}

fn say(role: Role) -> String {
    format!(
        "{} {} \"{}\"",
        role.service,
        format!("{:?}", role.kind).to_uppercase(),
        role.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request as it is with these pieces, every trace named after the span that begins it.
    fn played(pieces: &[Piece]) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for (nth, expected) in SPANS.iter().enumerate() {
            let role = expected.role.with(pieces);
            let parent = expected.parent.with(pieces);
            let parent = parent.map(|parent| only(&spans, parent.with(pieces)).unwrap());
            spans.push(Span {
                service: role.service.to_owned(),
                kind: role.kind,
                name: role.name.to_owned(),
                trace_id: parent.map_or(nth.to_string(), |parent| parent.trace_id.clone()),
                span_id: nth.to_string(),
                parent_span_id: parent.map(|parent| parent.span_id.clone()),
                ..Span::default()
            });
        }
        spans
    }

    fn left_out(piece: Piece) -> Vec<Piece> {
        Piece::BESIDE
            .into_iter()
            .filter(|each| *each != piece)
            .collect()
    }

    #[test]
    fn the_first_act_is_four_traces_and_the_others_are_one() {
        assert_eq!(ACTS.map(|act| traces(act.pieces)), [4, 1, 1, 1]);
        assert_eq!(
            Piece::BESIDE.map(|piece| traces(&left_out(piece))),
            [2, 2, 2]
        );
    }

    #[test]
    fn every_set_of_pieces_takes_its_own_picture_and_no_other() {
        // The native tracer's picture is the filter's.
        assert_eq!(check(&[Piece::Native], &played(&[Piece::Tracer])), Ok(()));
        let mut sets = vec![vec![], Piece::BESIDE.to_vec(), vec![Piece::Tracer]];
        sets.extend(Piece::BESIDE.map(left_out));
        for wanted in &sets {
            for got in &sets {
                let verdict = check(wanted, &played(got));
                assert_eq!(
                    verdict.is_ok(),
                    wanted == got,
                    "{wanted:?} {got:?} {verdict:?}"
                );
            }
        }
    }

    #[test]
    fn every_span_of_the_joined_trace_is_named_when_its_parent_is_wrong() {
        for nth in 1..SPANS.len() {
            let role = say(SPANS[nth].role);
            for parent in [None, Some("9"), Some("0")] {
                let mut spans = played(&Piece::BESIDE);
                if spans[nth].parent_span_id.as_deref() == parent {
                    continue;
                }
                spans[nth].parent_span_id = parent.map(str::to_owned);
                let why = check(&Piece::BESIDE, &spans).unwrap_err();
                assert!(
                    why.starts_with(&format!("{role} should be a child of")),
                    "{why}"
                );
            }
            let mut spans = played(&Piece::BESIDE);
            spans[nth].trace_id = "other".to_owned();
            assert!(check(&Piece::BESIDE, &spans).is_err(), "{role}");
        }
    }

    #[test]
    fn a_span_that_should_begin_a_trace_may_be_in_no_other() {
        let mut spans = played(&[]);
        spans[2].trace_id = spans[0].trace_id.clone();
        assert_eq!(
            check(&[], &spans),
            Err("storefront SERVER \"GET /checkout\" should begin a trace of its own.".to_owned())
        );
        spans[2].parent_span_id = Some("1".to_owned());
        assert_eq!(
            check(&[], &spans),
            Err(
                "storefront SERVER \"GET /checkout\" should begin a trace and has the parent 1."
                    .to_owned()
            )
        );
    }

    #[test]
    fn spans_that_are_missing_or_too_many_are_named() {
        let whole = played(&Piece::BESIDE);
        let twice = [&whole[..], &whole[8..]].concat();
        let mut stray = whole.clone();
        stray.push(Span {
            name: "stray".to_owned(),
            ..whole[8].clone()
        });
        for (spans, what) in [
            (
                &whole[..8],
                "storefront SERVER \"GET /order\" did not arrive.",
            ),
            (
                &twice,
                "storefront SERVER \"GET /order\" arrived more than once.",
            ),
            (&stray, "The request should leave 9 spans and left 10."),
        ] {
            assert_eq!(check(&Piece::BESIDE, spans), Err(what.to_owned()));
        }
    }
}
