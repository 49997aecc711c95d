use std::collections::BTreeMap;

use crate::Span;

/// The spans of one trace, each after its parent.
#[derive(Clone, Debug)]
pub struct Trace<'a> {
    /// The trace id, in hex.
    pub id: &'a str,
    /// The start of the first span, in nanoseconds since 1970.
    pub start: u64,
    /// The end of the last span.
    pub end: u64,
    /// The spans with their places. A parent is before its children, and siblings are in the order
    /// of their start.
    pub rows: Vec<Row<'a>>,
}

/// One span and its place in the tree.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The span itself.
    pub span: &'a Span,
    /// The span's connection to the rest of the trace.
    pub parent: Parent<'a>,
    /// For the span and for each ancestor below the top, from the outside in: whether it is the
    /// last of its siblings.
    pub last: Vec<bool>,
}

/// The result of looking up a span's parent id.
#[derive(Clone, Copy, Debug)]
pub enum Parent<'a> {
    /// The span has no parent id: it begins the trace.
    Root,
    /// The parent is a span of the same trace.
    Known(&'a Span),
    /// No span of the trace has this id.
    Missing(&'a str),
}

impl Row<'_> {
    /// The number of ancestors that are drawn above the span.
    pub fn depth(&self) -> usize {
        self.last.len()
    }
}

/// Sorts spans into traces, and each trace into a tree. The trace that began first comes first.
pub fn traces(spans: &[Span]) -> Vec<Trace<'_>> {
    let mut by_id: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in spans {
        by_id.entry(&span.trace_id).or_default().push(span);
    }
    let mut traces: Vec<Trace<'_>> = by_id
        .into_iter()
        .map(|(id, spans)| trace(id, spans))
        .collect();
    traces.sort_by_key(|trace| trace.start);
    traces
}

fn trace<'a>(id: &'a str, mut spans: Vec<&'a Span>) -> Trace<'a> {
    spans.sort_by_key(|span| {
        (
            span.start_unix_nanos,
            std::cmp::Reverse(span.end_unix_nanos),
        )
    });
    let find = |wanted: &dyn Fn(&Span) -> bool| spans.iter().position(|span| wanted(span));
    let parents: Vec<Option<usize>> = spans
        .iter()
        .enumerate()
        .map(|(at, span)| {
            let parent = if span.shared {
                // Zipkin's server reports its span with the id of the caller's span, so the
                // caller's span is the parent.
                find(&|other| other.span_id == span.span_id && !other.shared)
            } else {
                let id = span.parent_span_id.as_ref()?;
                find(&|other| other.span_id == *id && other.shared)
                    .or_else(|| find(&|other| other.span_id == *id))
            };
            parent.filter(|&parent| parent != at)
        })
        .collect();

    let mut rows = Vec::with_capacity(spans.len());
    let mut drawn = vec![false; spans.len()];
    // Spans without a known parent are the tops. A loop of parents has no top, so drawing begins at
    // its earliest span.
    let tops = (0..spans.len())
        .filter(|&at| parents[at].is_none())
        .chain(0..spans.len());
    for top in tops {
        let mut open = vec![(top, Vec::new())];
        while let Some((at, last)) = open.pop() {
            if std::mem::replace(&mut drawn[at], true) {
                continue;
            }
            let children: Vec<usize> = (0..spans.len())
                .filter(|&child| parents[child] == Some(at) && !drawn[child])
                .collect();
            for (nth, &child) in children.iter().rev().enumerate() {
                open.push((child, last.iter().copied().chain([nth == 0]).collect()));
            }
            let parent = match (parents[at], spans[at].parent_span_id.as_deref()) {
                (Some(parent), _) => Parent::Known(spans[parent]),
                (None, Some(missing)) => Parent::Missing(missing),
                (None, None) => Parent::Root,
            };
            rows.push(Row {
                span: spans[at],
                parent,
                last,
            });
        }
    }
    Trace {
        id,
        start: spans
            .iter()
            .map(|span| span.start_unix_nanos)
            .min()
            .unwrap_or(0),
        end: spans
            .iter()
            .map(|span| span.end_unix_nanos)
            .max()
            .unwrap_or(0),
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{ONE, TWO, shop, span};
    use super::*;
    use crate::SpanKind;

    fn drawn(trace: &Trace<'_>) -> Vec<(String, usize)> {
        trace
            .rows
            .iter()
            .map(|row| (row.span.name.clone(), row.depth()))
            .collect()
    }

    #[test]
    fn children_come_after_their_parents_whatever_the_order_of_arrival() {
        let spans = shop(ONE, Some("b2b2b2b2b2b2b2b2"));
        let traces = traces(&spans);
        assert_eq!(traces.len(), 1);
        assert_eq!(
            drawn(&traces[0]),
            [
                ("GET /checkout".into(), 0),
                ("GET".into(), 1),
                ("GET /charge".into(), 2)
            ]
        );
        assert!(matches!(traces[0].rows[2].parent, Parent::Known(parent) if parent.name == "GET"));
    }

    #[test]
    fn the_trace_that_began_first_comes_first() {
        let spans = shop(TWO, None);
        let traces = traces(&spans);
        assert_eq!(
            traces.iter().map(|trace| trace.id).collect::<Vec<_>>(),
            [ONE, TWO]
        );
        assert_eq!(traces[1].end - traces[1].start, 20_000_000);
        assert!(matches!(traces[1].rows[0].parent, Parent::Root));
    }

    #[test]
    fn a_parent_of_another_trace_is_missing() {
        let spans = shop(TWO, Some("b2b2b2b2b2b2b2b2"));
        let traces = traces(&spans);
        assert!(matches!(
            traces[1].rows[0].parent,
            Parent::Missing("b2b2b2b2b2b2b2b2")
        ));
    }

    #[test]
    fn siblings_stand_in_order_and_only_the_last_one_closes_the_branch() {
        let child = |id, name, time| {
            span(
                ONE,
                id,
                Some("a1a1a1a1a1a1a1a1"),
                SpanKind::Internal,
                "storefront",
                name,
                time,
            )
        };
        let mut spans = shop(ONE, Some("b2b2b2b2b2b2b2b2"));
        spans.push(child("d4d4d4d4d4d4d4d4", "receipt", (36, 39)));
        let traces = traces(&spans);
        let last: Vec<_> = traces[0].rows.iter().map(|row| row.last.clone()).collect();
        assert_eq!(last, [vec![], vec![false], vec![false, true], vec![true]]);
    }

    #[test]
    fn a_server_that_shares_its_callers_id_stands_between_the_caller_and_its_own_calls() {
        let (client, server) = (SpanKind::Client, SpanKind::Server);
        let mut spans = [
            span(
                ONE,
                "a1a1a1a1a1a1a1a1",
                None,
                client,
                "caller",
                "call",
                (0, 9),
            ),
            span(
                ONE,
                "a1a1a1a1a1a1a1a1",
                None,
                server,
                "callee",
                "serve",
                (1, 8),
            ),
            span(
                ONE,
                "b2b2b2b2b2b2b2b2",
                Some("a1a1a1a1a1a1a1a1"),
                client,
                "callee",
                "next",
                (2, 7),
            ),
        ];
        spans[1].shared = true;
        let traces = traces(&spans);
        assert_eq!(
            drawn(&traces[0]),
            [("call".into(), 0), ("serve".into(), 1), ("next".into(), 2)]
        );
    }

    #[test]
    fn loops_lose_no_span_and_draw_none_twice() {
        let server = SpanKind::Server;
        let spans = [
            span(
                ONE,
                "a1a1a1a1a1a1a1a1",
                Some("b2b2b2b2b2b2b2b2"),
                server,
                "a",
                "loop, first",
                (0, 1),
            ),
            span(
                ONE,
                "b2b2b2b2b2b2b2b2",
                Some("a1a1a1a1a1a1a1a1"),
                server,
                "b",
                "loop, second",
                (1, 2),
            ),
            span(
                ONE,
                "c3c3c3c3c3c3c3c3",
                Some("c3c3c3c3c3c3c3c3"),
                server,
                "c",
                "its own parent",
                (2, 3),
            ),
        ];
        let traces = traces(&spans);
        assert_eq!(
            drawn(&traces[0]),
            [
                ("its own parent".into(), 0),
                ("loop, first".into(), 0),
                ("loop, second".into(), 1)
            ]
        );
    }
}
