//! The second pass of a request that an answer led elsewhere ("internal redirect").
//!
//! Envoy ends the first pass and begins the second one at once, on the same thread and with no other
//! request between them. It keeps the headers, and with them what was injected last. That contains
//! the id of a span that only this worker has made, and that no client can guess. So the request
//! that begins next is looked at, for a second at most: an application that passes on what it was told
//! makes calls of its own later, and Envoy takes the URL that it writes itself from all callers that it
//! does not take for internal.

use std::rc::Rc;

use meshtrace_headers::Change;
use meshtrace_pipeline::{MAX_EDITS, Outcome, Request, SpanStart};
use meshtrace_propagation::{Direction, Read, SpanId};

use crate::block::Block;
use crate::call::Carrier;
use crate::clock::SystemClock;
use crate::span::{Family, request};
use crate::worker::Worker;

/// The most nanoseconds between the end of the first pass and the second one, which Envoy begins in the
/// same call. It is the time that a machine may take from the thread: Linux holds back a container that
/// has used up its CPU limit for tenths of a second.
const MAX_GAP: u64 = 1_000_000_000;
/// The header with the URL of the first pass.
const ORIGINAL_URL: &[u8] = b"x-envoy-original-url";
/// The headers in which an id is not written in hexadecimal digits.
const OTHER_DIGITS: [&[u8]; 3] = [
    b"x-datadog-parent-id",
    b"x-cloud-trace-context",
    b"grpc-trace-bin",
];

/// The first pass of the request that begins now with these headers, where this is a second one.
pub(crate) fn first_pass(
    worker: &Worker,
    carrier: &Carrier,
    block: &Block,
    direction: Direction,
) -> Option<Rc<Family>> {
    let last = worker.take_last()?;
    let is_again = last.direction == direction
        && last.told.get().is_some_and(|(span_id, parent)| {
            may_tell(block, span_id)
                && carrier.get(ORIGINAL_URL).is_some()
                && SystemClock.now().saturating_sub(last.ended_at.get()) <= MAX_GAP
                && tells(worker, &last, (span_id, parent), block)
        });
    if is_again {
        return Some(last);
    }
    worker.give_back_family(last);
    None
}

/// Starts the span of the second pass of `first`.
#[cold]
#[inline(never)]
pub(crate) fn start<'a>(
    worker: &Worker,
    first: &'a Family,
    request: &Request<'a>,
    outcome: &mut Outcome<'a>,
) -> Option<(SpanStart<'a>, Read)> {
    let (start, (caller, _)) = first.start().zip(first.told.get())?;
    let start = start.with_tracestate(&first.tracestate);
    let stages = &worker.mesh_tracing;
    stages.start_again(request, &start, caller, &worker.ids, outcome)
}

/// Whether a header may contain this id.
fn may_tell(block: &Block, span_id: SpanId) -> bool {
    let mut headers = block.single().peekable();
    if headers.peek().is_none() {
        return false;
    }
    let digits = span_id.to_hex();
    headers.any(|(name, value)| has(value, &digits) || OTHER_DIGITS.contains(&name))
}

/// Whether `value` contains these digits.
fn has(value: &[u8], digits: &[u8; 16]) -> bool {
    // Where `traceparent` has them.
    let in_traceparent = value.get(36..52) == Some(digits);
    in_traceparent || value.len() != 55 && value.windows(16).any(|part| part == digits)
}

/// Whether the request has a header with an id that `last` injected for the span of these `ids`.
#[cold]
fn tells(worker: &Worker, last: &Family, ids: (SpanId, Option<SpanId>), block: &Block) -> bool {
    let Some((start, read)) = &last.start else {
        return false;
    };
    worker.with_arena(|arena| {
        let request = request(last.block.headers(), last.direction, worker, arena);
        let mut outcome = Outcome::with_room(arena, MAX_EDITS, 0);
        let start = start.with_tracestate(&last.tracestate);
        let stages = &worker.mesh_tracing;
        stages.inject_span(&request, (&start, read), ids, &mut outcome);
        let digits = ids.0.to_hex();
        outcome.headers.iter().any(|edit| {
            let Change::Replace(value) = &edit.change else {
                return false;
            };
            let value = value.as_bytes();
            let is_own = has(value, &digits) || OTHER_DIGITS.contains(&edit.name);
            is_own && block.single().any(|header| header == (edit.name, value))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_wherever_a_format_has_it() {
        let digits = b"00f067aa0ba902b7";
        for (value, expected) in [
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                true,
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-a8e0bed6092f2234-01",
                false,
            ),
            ("4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1", true),
            ("00f067aa0ba902b7", true),
            ("00f067aa0ba902b", false),
            (
                "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=00f067aa0ba902b7",
                true,
            ),
            ("", false),
        ] {
            assert_eq!(has(value.as_bytes(), digits), expected, "{value}");
        }
    }
}
