//! Draws one trace: a storefront serves a request, and calls the payments service meanwhile.

use span_waterfall::{Span, SpanKind, Terminal};

fn main() {
    let server = span(
        "a1a1a1a1a1a1a1a1",
        None,
        SpanKind::Server,
        "storefront",
        "GET /checkout",
        (0, 40),
    );
    let client = span(
        "b2b2b2b2b2b2b2b2",
        Some(&server),
        SpanKind::Client,
        "storefront",
        "GET",
        (5, 35),
    );
    let charge = span(
        "c3c3c3c3c3c3c3c3",
        Some(&client),
        SpanKind::Server,
        "payments",
        "GET /charge",
        (10, 30),
    );
    print!(
        "{}",
        Terminal::of_stdout().render(&[server, client, charge])
    );
}

/// A span from and to these milliseconds.
fn span(
    id: &str,
    parent: Option<&Span>,
    kind: SpanKind,
    service: &str,
    name: &str,
    (from, to): (u64, u64),
) -> Span {
    Span {
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
        span_id: id.to_owned(),
        parent_span_id: parent.map(|parent| parent.span_id.clone()),
        name: name.to_owned(),
        kind,
        service: service.to_owned(),
        start_unix_nanos: from * 1_000_000,
        end_unix_nanos: to * 1_000_000,
        ..Span::default()
    }
}
