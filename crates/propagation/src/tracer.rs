//! For an upstream filter: finds the headers that the proxy's tracer has just written.

use crate::extract::Found;
use crate::format::{Extracted, Format};
use crate::per_format::PerFormat;
use crate::propagation::Propagation;
use crate::{Arrived, Field, SamplingState, TraceContext};

impl Propagation {
    /// The context in the tracer's own format. A decision without ids is never a tracer's.
    pub(crate) fn written_by_tracer(
        &self,
        arrived: &Arrived<'_>,
        by_format: &PerFormat<Extracted>,
    ) -> Found {
        let context = |format| match by_format.of(format) {
            Extracted::Context(context) => Some(context),
            Extracted::Absent
            | Extracted::Sampling(_)
            | Extracted::Incomplete { .. }
            | Extracted::Malformed => None,
        };
        let mut valid = self
            .extraction
            .formats
            .iter()
            .copied()
            .filter_map(|format| {
                let context = context(format)?;
                Some((format, context))
            });
        let (named, other) = (valid.next(), valid.next());
        let fresh = match (context(Format::B3), context(Format::B3Multi)) {
            (Some(single), Some(multi)) => fresh(&single, &multi),
            _ => None,
        };
        let own = match (named, other) {
            (_, Some((format, context))) if fresh == Some(format) => Some((format, context)),
            _ => named,
        };
        match own {
            None => Found::Nothing,
            // Envoy always writes x-b3-sampled; x-b3-flags beside it is the client's.
            Some((Format::B3Multi, context)) if arrived.value(Field::XB3Sampled) == Some(b"0") => {
                let sampling = SamplingState::NotSampled;
                Found::Context(
                    Format::B3Multi,
                    TraceContext {
                        sampling,
                        ..context
                    },
                )
            }
            Some((format, context)) => Found::Context(format, context),
        }
    }
}

/// Which shape of B3 Envoy's Zipkin tracer wrote on this attempt; `None` where the headers do not
/// show it.
///
/// Until 1.39 the tracer writes `x-b3-*` and leaves a client's `b3` beside it. From 1.40 on it
/// writes the shape that came in and leaves the other one. The shape that this filter wrote on an
/// earlier attempt is there too; where it is `b3`, it has no parent.
fn fresh(single: &TraceContext, multi: &TraceContext) -> Option<Format> {
    match (single.b3_parent, multi.b3_parent) {
        // The tracer prefers `b3` as input, so `x-b3-*` that it wrote continues that trace.
        _ if single.trace_id != multi.trace_id => Some(Format::B3),
        (_, Some(parent)) if parent == single.span_id => Some(Format::B3Multi),
        (Some(parent), _) if parent == multi.span_id => Some(Format::B3),
        // Two attempts of one request: a `b3` that this filter wrote would have no parent.
        (Some(one), Some(other)) if one == other => Some(Format::B3),
        (Some(_), None) => Some(Format::B3),
        (None, Some(_)) => Some(Format::B3Multi),
        _ => None,
    }
}
