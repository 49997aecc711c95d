//! What is run and what must come of it, as data.

use std::collections::BTreeSet;

use envoy_test_harness::span::{Span, SpanKind};

/// A Python application, and the one propagator its SDK is given.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) name: &'static str,
    /// For `OTEL_PROPAGATORS`.
    pub(crate) propagator: &'static str,
    /// The same for people.
    pub(crate) format: &'static str,
    /// The variable through which it learns where the next application's Envoy listens.
    pub(crate) next: Option<&'static str>,
}

/// In the order in which the request reaches them. Each has an Envoy in front of it.
pub(crate) const APPS: [App; 2] = [
    App {
        name: "storefront",
        propagator: "b3multi",
        format: "B3",
        next: Some("PAYMENTS_URL"),
    },
    App {
        name: "payments",
        propagator: "tracecontext",
        format: "W3C",
        next: None,
    },
];

/// The request that the client sends to the first application's Envoy.
pub(crate) const PATH: &str = "/checkout";

/// One run of the request.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) title: &'static str,
    pub(crate) filter: bool,
    pub(crate) spans: &'static [Expected],
    /// What to say when the spans are as expected.
    pub(crate) verdict: &'static str,
    pub(crate) text: &'static str,
}

/// A span that the request must leave behind.
#[derive(Debug)]
pub(crate) struct Expected {
    role: Role,
    /// The span whose child it is; `None` begins a trace of its own.
    parent: Option<Role>,
}

type Role = (&'static str, SpanKind);

const CHECKOUT: Role = ("storefront", SpanKind::Server);
const CALL: Role = ("storefront", SpanKind::Client);
const CHARGE: Role = ("payments", SpanKind::Server);

pub(crate) const ACTS: [Act; 2] = [
    Act {
        title: "Without the filter",
        filter: false,
        spans: &[
            Expected {
                role: CHECKOUT,
                parent: None,
            },
            Expected {
                role: CALL,
                parent: Some(CHECKOUT),
            },
            Expected {
                role: CHARGE,
                parent: None,
            },
        ],
        verdict: "2 traces",
        text: "Two traces: the B3 application and the W3C application do not see each other.",
    },
    Act {
        title: "With trace_context.wasm in both Envoys",
        filter: true,
        spans: &[
            Expected {
                role: CHECKOUT,
                parent: None,
            },
            Expected {
                role: CALL,
                parent: Some(CHECKOUT),
            },
            Expected {
                role: CHARGE,
                parent: Some(CALL),
            },
        ],
        verdict: "1 trace",
        text: "One trace, every parent right.",
    },
];

/// What the story asks of a span.
#[derive(Clone, Copy, Debug)]
struct Seen<'a> {
    service: &'a str,
    kind: SpanKind,
    trace: &'a str,
    id: &'a str,
    parent: Option<&'a str>,
}

impl<'a> From<&'a Span> for Seen<'a> {
    fn from(span: &'a Span) -> Self {
        Self {
            service: &span.service,
            kind: span.kind,
            trace: &span.trace_id,
            id: &span.span_id,
            parent: span.parent_span_id.as_deref(),
        }
    }
}

impl Act {
    /// Whether the story of this act is that the request is one trace.
    pub(crate) fn joined(&self) -> bool {
        self.spans
            .iter()
            .filter(|span| span.parent.is_none())
            .count()
            == 1
    }

    /// Whether the spans are those of the story; if not, a sentence that says which is not.
    pub(crate) fn check(&self, spans: &[Span]) -> Result<(), String> {
        self.compare(&spans.iter().map(Seen::from).collect::<Vec<_>>())
    }

    fn compare(&self, spans: &[Seen<'_>]) -> Result<(), String> {
        let mut traces = BTreeSet::new();
        for Expected { role, parent } in self.spans {
            let span = only(spans, *role)?;
            let Some(parent) = parent else {
                if let Some(parent) = span.parent {
                    return Err(format!(
                        "{} should begin a trace and has the parent {parent}.",
                        say(*role)
                    ));
                }
                if !traces.insert(span.trace) {
                    return Err(format!("{} should begin a trace of its own.", say(*role)));
                }
                continue;
            };
            let wanted = only(spans, *parent)?;
            if span.trace != wanted.trace {
                return Err(format!(
                    "{} should be in the trace of {}, {}; it is in {}.",
                    say(*role),
                    say(*parent),
                    wanted.trace,
                    span.trace
                ));
            }
            if span.parent != Some(wanted.id) {
                return Err(format!(
                    "{} should be a child of {}, {}; its parent is {}.",
                    say(*role),
                    say(*parent),
                    wanted.id,
                    span.parent.unwrap_or("missing")
                ));
            }
        }
        if spans.len() == self.spans.len() {
            Ok(())
        } else {
            Err(format!(
                "The request should leave {} spans and left {}.",
                self.spans.len(),
                spans.len()
            ))
        }
    }
}

fn only<'a>(spans: &[Seen<'a>], role: Role) -> Result<Seen<'a>, String> {
    let mut found = spans
        .iter()
        .filter(|span| (span.service, span.kind) == role);
    match (found.next(), found.next()) {
        (Some(span), None) => Ok(*span),
        (None, _) => Err(format!("{} did not arrive.", say(role))),
        _ => Err(format!("{} arrived more than once.", say(role))),
    }
}

fn say((service, kind): Role) -> String {
    format!("{service} {}", format!("{kind:?}").to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHARGE_ALONE: Seen<'static> = seen(CHARGE, "two", "c", None);

    const fn seen(
        (service, kind): Role,
        trace: &'static str,
        id: &'static str,
        parent: Option<&'static str>,
    ) -> Seen<'static> {
        Seen {
            service,
            kind,
            trace,
            id,
            parent,
        }
    }

    fn with_charge(charge: &[Seen<'static>]) -> Vec<Seen<'static>> {
        [
            &[
                seen(CHECKOUT, "one", "a", None),
                seen(CALL, "one", "b", Some("a")),
            ],
            charge,
        ]
        .concat()
    }

    #[test]
    fn each_act_takes_its_own_picture_and_no_other() {
        let [without, with] = ACTS;
        let (apart, joined) = (
            with_charge(&[CHARGE_ALONE]),
            with_charge(&[seen(CHARGE, "one", "c", Some("b"))]),
        );
        assert_eq!(without.compare(&apart), Ok(()));
        assert_eq!(with.compare(&joined), Ok(()));
        assert!(
            without
                .compare(&joined)
                .is_err_and(|why| why.contains("should begin a trace"))
        );
        assert!(
            with.compare(&apart)
                .is_err_and(|why| why.contains("should be in the trace of"))
        );
    }

    #[test]
    fn one_trace_with_a_wrong_parent_is_not_joined() {
        let [without, with] = ACTS;
        for parent in [None, Some("a"), Some("9")] {
            let spans = with_charge(&[seen(CHARGE, "one", "c", parent)]);
            assert!(
                with.compare(&spans)
                    .is_err_and(|why| why.contains("should be a child of")),
                "{parent:?}"
            );
        }
        let unrelated = with_charge(&[seen(CHARGE, "one", "c", None)]);
        assert!(
            without
                .compare(&unrelated)
                .is_err_and(|why| why.contains("a trace of its own"))
        );
    }

    #[test]
    fn spans_that_are_missing_or_too_many_are_named() {
        let [without, _] = ACTS;
        let stray = seen(("payments", SpanKind::Internal), "two", "d", Some("c"));
        for (charge, what) in [
            (vec![], "payments SERVER did not arrive."),
            (
                vec![CHARGE_ALONE, CHARGE_ALONE],
                "payments SERVER arrived more than once.",
            ),
            (
                vec![CHARGE_ALONE, stray],
                "The request should leave 3 spans and left 4.",
            ),
        ] {
            assert_eq!(without.compare(&with_charge(&charge)), Err(what.to_owned()));
        }
    }
}
