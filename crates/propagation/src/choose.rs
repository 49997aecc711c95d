//! Chooses one context from those of all formats, and completes it from the others.

use crate::extract::{Found, Unfinished};
use crate::format::{Extracted, Format, members_of};
use crate::id;
use crate::per_format::PerFormat;
use crate::propagation::Propagation;
use crate::{Arrived, Counter, SamplingState, Tally, TraceContext, TraceId, tracestate};

impl Propagation {
    /// Returns the first valid context. Without any, returns the first decision that came without
    /// ids.
    pub(crate) fn first_valid(&self, by_format: &PerFormat<Extracted>) -> Found {
        let mut found = Found::Nothing;
        let mut multi_is_superseded = false;
        for format in &self.extraction.formats {
            if *format == Format::B3Multi && multi_is_superseded {
                continue;
            }
            let extracted = by_format.of(*format);
            match (extracted, &found) {
                (Extracted::Context(context), _) => return Found::Context(*format, context),
                (Extracted::Sampling(sampling), Found::Nothing) => {
                    found = Found::Sampling(*format, sampling);
                }
                _ => {}
            }
            // B3: "the single header takes precedence". Its content is not completed from x-b3-*.
            if *format == Format::B3 {
                multi_is_superseded = match extracted {
                    Extracted::Absent | Extracted::Incomplete { .. } => false,
                    Extracted::Malformed => self.extraction.reading.b3_strict,
                    Extracted::Sampling(_) | Extracted::Context(_) => true,
                };
            }
        }
        found
    }

    /// Returns the first trace id without a span. Where its own format leaves the decision open,
    /// the decision may come from another format.
    pub(crate) fn unfinished(&self, by_format: &PerFormat<Extracted>) -> Option<Unfinished> {
        let mut unfinished = self.extraction.formats.iter().find_map(|format| {
            let Extracted::Incomplete { trace_id, sampling } = by_format.of(*format) else {
                return None;
            };
            Some(Unfinished {
                format: *format,
                trace_id,
                sampling,
            })
        })?;
        for format in &self.extraction.formats {
            if unfinished.sampling == SamplingState::Deferred {
                let trace = (unfinished.format, unfinished.trace_id);
                unfinished.sampling = without_span(trace, (*format, by_format.of(*format)));
            }
        }
        Some(unfinished)
    }

    /// Returns the one format in which a context arrived. Returns `None` where only W3C's arrived:
    /// its callers have migrated already, and the counter would cost a look-up of the listener's
    /// direction.
    pub(crate) fn only(&self, by_format: &PerFormat<Extracted>) -> Option<Format> {
        let is_valid = |format: &Format| matches!(by_format.of(*format), Extracted::Context(_));
        let mut valid = self.extraction.formats.iter().copied().filter(is_valid);
        match (valid.next()?, valid.next(), valid.next()) {
            (Format::Tracecontext, None, _) => None,
            (only, None, _) => Some(only),
            // A caller that sends B3 in both shapes sends only one format.
            (Format::B3, Some(Format::B3Multi), None)
            | (Format::B3Multi, Some(Format::B3), None) => Some(Format::B3),
            _ => None,
        }
    }

    /// Compares the chosen `context` with the other formats, and takes from them the data that its
    /// own format cannot carry. Returns whether any of them has another trace id.
    pub(crate) fn reconcile(
        &self,
        chosen: Format,
        context: &mut TraceContext,
        arrived: &Arrived<'_>,
        by_format: &PerFormat<Extracted>,
        tally: &mut Tally,
    ) -> bool {
        let mut conflicting = false;
        for format in self
            .extraction
            .formats
            .iter()
            .filter(|format| **format != chosen)
        {
            let ours = (chosen, context.trace_id);
            let Extracted::Context(other) = by_format.of(*format) else {
                // A decision that `b3` leaves open is not taken from x-b3-* without ids.
                let completes = (chosen, *format) != (Format::B3, Format::B3Multi);
                if context.sampling == SamplingState::Deferred && completes {
                    context.sampling = without_span(ours, (*format, by_format.of(*format)));
                }
                continue;
            };
            let Some(trace_id) = same_trace(ours, (*format, other.trace_id)) else {
                tally.count(Counter::ConflictTraceId);
                conflicting = true;
                continue;
            };
            context.trace_id = trace_id;
            // The flag is about how the id was made, so it holds for the trace in any format.
            context.random |= other.random;
            if other.span_id != context.span_id {
                tally.count(Counter::ConflictSpanId);
                context.sampling = of_one_trace(context.sampling, other.sampling);
                continue;
            }
            if let (Some(ours), Some(theirs)) =
                (context.sampling.decision(), other.sampling.decision())
                && ours != theirs
            {
                tally.count(Counter::ConflictSampled);
            }
            let id = context.trace_id;
            context.sampling = self.agreed(
                (chosen, context.sampling),
                (*format, other.sampling),
                || members_of(id, arrived).is_some_and(|of| tracestate::has_threshold(&of)),
            );
            context.b3_parent = context.b3_parent.or(other.b3_parent);
        }
        conflicting
    }

    /// The decision that two formats have together about one span. `is_sampled` says whether a
    /// sampler has decided about it.
    fn agreed(
        &self,
        ours: (Format, SamplingState),
        theirs: (Format, SamplingState),
        is_sampled: impl Fn() -> bool,
    ) -> SamplingState {
        match (ours, theirs) {
            // A hop before this one wrote W3C's flag in place of "deferred". That flag is no
            // decision. If it were used as one, it would be written to B3 as a decision that no hop
            // made.
            ((_, SamplingState::Deferred), (format, explicit))
            | ((format, explicit), (_, SamplingState::Deferred))
                if !format.can_defer()
                    && explicit == self.writing.on_defer.sampling()
                    && !(explicit == SamplingState::Sampled && is_sampled()) =>
            {
                SamplingState::Deferred
            }
            ((_, ours), (_, theirs)) => of_one_trace(ours, theirs),
        }
    }
}

/// The decision that two formats have together about one trace. Debug wins; then a decision wins
/// over none; then the format that is listed first wins.
fn of_one_trace(ours: SamplingState, theirs: SamplingState) -> SamplingState {
    match (ours, theirs) {
        (SamplingState::Debug, _) | (_, SamplingState::Debug) => SamplingState::Debug,
        (SamplingState::Deferred, theirs) => theirs,
        (ours, _) => ours,
    }
}

/// The decision that the format `theirs` has, without a span or without any ids, about the trace
/// `ours`, which is undecided.
fn without_span(ours: (Format, TraceId), theirs: (Format, Extracted)) -> SamplingState {
    match theirs {
        (_, Extracted::Sampling(sampling)) => sampling,
        (format, Extracted::Incomplete { trace_id, sampling })
            if same_trace(ours, (format, trace_id)).is_some() =>
        {
            sampling
        }
        _ => SamplingState::Deferred,
    }
}

/// The whole trace id that two formats have, where one of them may have cut it.
fn same_trace(one: (Format, TraceId), other: (Format, TraceId)) -> Option<TraceId> {
    let id = |(format, id): (Format, TraceId)| (id, format.cuts_ids());
    id::same_trace(id(one), id(other))
}
