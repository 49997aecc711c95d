#![doc = include_str!("../README.md")]

mod forest;
mod html;
mod markup;
mod pair;
mod span;
mod terminal;

pub use forest::{Parent, Row, Trace, traces};
pub use html::{Act, Given, Hop, Page};
pub use span::{Span, SpanKind};
pub use terminal::Terminal;

/// The stretch of time that the bars of several traces share.
#[derive(Clone, Copy, Debug)]
struct Axis {
    start: u64,
    length: u64,
}

impl Axis {
    fn of(traces: &[Trace<'_>]) -> Self {
        let start = traces.iter().map(|trace| trace.start).min().unwrap_or(0);
        let end = traces.iter().map(|trace| trace.end).max().unwrap_or(0);
        // At least one, because the bars divide by it.
        Self {
            start,
            length: end.saturating_sub(start).max(1),
        }
    }

    /// The start and the length of a span, as shares of the axis.
    fn place(self, span: &Span) -> (f64, f64) {
        let share = |nanos: u64| nanos as f64 / self.length as f64;
        (
            share(span.start_unix_nanos.saturating_sub(self.start)),
            share(nanos_of(span)),
        )
    }
}

/// The services in the order in which they first took part. The place of a service in this list is
/// its colour.
fn services<'a>(traces: &[Trace<'a>]) -> Vec<&'a str> {
    let mut spans: Vec<&Span> = traces
        .iter()
        .flat_map(|trace| &trace.rows)
        .map(|row| row.span)
        .collect();
    spans.sort_by_key(|span| span.start_unix_nanos);
    let mut seen = Vec::new();
    for span in spans {
        if !seen.contains(&span.service.as_str()) {
            seen.push(span.service.as_str());
        }
    }
    seen
}

/// Whether a proxy reported the span and not an application. Envoy's tracers set `component` and
/// `upstream_cluster.name`, whichever tracer it is. A tracer among Envoy's filters sets only
/// `upstream_cluster.name`.
fn of_proxy(span: &Span) -> bool {
    span.attribute("component") == Some("proxy")
        || span.attribute("upstream_cluster.name").is_some()
}

fn nanos_of(span: &Span) -> u64 {
    span.end_unix_nanos.saturating_sub(span.start_unix_nanos)
}

fn duration(nanos: u64) -> String {
    match nanos {
        0..1_000_000 => format!("{} µs", nanos / 1_000),
        1_000_000..1_000_000_000 => format!("{:.1} ms", nanos as f64 / 1e6),
        _ => format!("{:.2} s", nanos as f64 / 1e9),
    }
}

fn kind(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "-",
        SpanKind::Internal => "INTERNAL",
        SpanKind::Server => "SERVER",
        SpanKind::Client => "CLIENT",
        SpanKind::Producer => "PRODUCER",
        SpanKind::Consumer => "CONSUMER",
    }
}

/// Eight characters are enough to distinguish the spans of a picture. Sixteen leave no room for the
/// picture.
fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

/// The name of a span may be any text of an application. It must not move the cursor or end a line.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{FFFD}' } else { c })
        .collect()
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::fixtures::{ONE, by_proxy, span};
    use super::*;

    #[test]
    fn a_proxy_is_known_by_its_component_or_by_the_cluster_that_it_chose() {
        let plain = span(ONE, "a1", None, SpanKind::Server, "shop", "GET", (0, 1));
        assert!(!of_proxy(&plain));
        assert!(of_proxy(&by_proxy(plain.clone())));
        let mut routed = plain;
        let cluster = ("upstream_cluster.name".into(), "next".into());
        routed.attributes.extend([cluster]);
        assert!(of_proxy(&routed));
    }
}

#[cfg(test)]
mod fixtures {
    use std::collections::BTreeMap;

    use crate::{Span, SpanKind};

    pub(super) const ONE: &str = "11111111111111111111111111111111";
    pub(super) const TWO: &str = "22222222222222222222222222222222";

    /// A span of `service`, from and to in milliseconds.
    pub(super) fn span(
        trace: &str,
        id: &str,
        parent: Option<&str>,
        kind: SpanKind,
        service: &str,
        name: &str,
        (from, to): (u64, u64),
    ) -> Span {
        const DAY: u64 = 1_700_000_000_000_000_000;
        Span {
            trace_id: trace.into(),
            span_id: id.into(),
            parent_span_id: parent.map(Into::into),
            name: name.into(),
            kind,
            service: service.into(),
            start_unix_nanos: DAY + from * 1_000_000,
            end_unix_nanos: DAY + to * 1_000_000,
            attributes: BTreeMap::new(),
            resource: BTreeMap::new(),
            status_error: false,
            trace_state: String::new(),
            shared: false,
        }
    }

    /// The same span, as Envoy's tracers report it.
    pub(super) fn by_proxy(mut span: Span) -> Span {
        span.attributes.insert("component".into(), "proxy".into());
        span
    }

    /// A shop that pays: the payment's span in `payment_trace`, with that parent.
    pub(super) fn shop(payment_trace: &str, payment_parent: Option<&str>) -> Vec<Span> {
        vec![
            span(
                payment_trace,
                "c3c3c3c3c3c3c3c3",
                payment_parent,
                SpanKind::Server,
                "payments",
                "GET /charge",
                (10, 30),
            ),
            span(
                ONE,
                "b2b2b2b2b2b2b2b2",
                Some("a1a1a1a1a1a1a1a1"),
                SpanKind::Client,
                "storefront",
                "GET",
                (5, 35),
            ),
            span(
                ONE,
                "a1a1a1a1a1a1a1a1",
                None,
                SpanKind::Server,
                "storefront",
                "GET /checkout",
                (0, 40),
            ),
        ]
    }
}
