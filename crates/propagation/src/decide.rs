//! Continuing, starting or restarting the trace.

use crate::config::{IncomingMode, OnMissing, Propagation};
use crate::extract::{Found, Incoming};
use crate::{Counter, IdGenerator, Sampling, Tally, TraceContext, TraceId};

/// What the next hop is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Nothing.
    Nothing,
    /// A decision without ids (B3 only).
    Sampling(Sampling),
    /// This context.
    Context(TraceContext),
}

impl Outgoing {
    pub(crate) fn sampling(&self) -> Sampling {
        match self {
            Self::Nothing => Sampling::Deferred,
            Self::Sampling(sampling) => *sampling,
            Self::Context(context) => context.sampling,
        }
    }
}

/// What becomes of the trace.
#[derive(Clone, Copy, Debug)]
pub struct Decision {
    /// What the next hop is to be told.
    pub outgoing: Outgoing,
    /// The trace that came in, where it is not continued.
    pub previous_trace_id: Option<TraceId>,
}

impl Propagation {
    /// Continues what came in, or starts a trace where the configuration says so.
    pub fn decide(
        &self,
        incoming: &Incoming<'_>,
        ids: &IdGenerator,
        tally: &mut Tally,
    ) -> Decision {
        let start = if self.generate_sampled {
            Sampling::Sampled
        } else {
            Sampling::NotSampled
        };
        let continued = |outgoing| Decision {
            outgoing,
            previous_trace_id: None,
        };
        match (incoming.mode, incoming.found) {
            (IncomingMode::Ignore, _) => {
                tally.count(Counter::Ignored);
                continued(self.start_if_missing(start, Outgoing::Nothing, ids, tally))
            }
            (IncomingMode::Restart, Found::Context(_, context)) => {
                self.restart(context.trace_id, start, ids, tally)
            }
            // An untrusted caller's decision is not believed either.
            (IncomingMode::Restart, _) => {
                continued(self.start_if_missing(start, Outgoing::Nothing, ids, tally))
            }
            (IncomingMode::Continue, Found::Nothing) => {
                let pass = Outgoing::Nothing;
                continued(match incoming.unfinished {
                    Some(trace) => self.finish_if_asked(trace, start, pass, ids, tally),
                    None => self.start_if_missing(start, pass, ids, tally),
                })
            }
            (IncomingMode::Continue, Found::Sampling(_, sampling)) => {
                let pass = Outgoing::Sampling(sampling);
                continued(match incoming.unfinished {
                    Some(trace) => self.finish_if_asked(trace, sampling, pass, ids, tally),
                    None => self.start_if_missing(sampling, pass, ids, tally),
                })
            }
            (IncomingMode::Continue, Found::Context(_, context)) => {
                if self.restarts_on_conflict(incoming) {
                    self.restart(context.trace_id, context.sampling, ids, tally)
                } else {
                    continued(Outgoing::Context(context))
                }
            }
        }
    }

    fn start_if_missing(
        &self,
        sampling: Sampling,
        pass: Outgoing,
        ids: &IdGenerator,
        tally: &mut Tally,
    ) -> Outgoing {
        match self.on_missing {
            OnMissing::Pass => pass,
            OnMissing::Generate => {
                tally.count(Counter::Generated);
                Outgoing::Context(self.start(sampling, ids))
            }
        }
    }

    /// Starts a span in a trace whose id came without one. Its own decision wins over `sampling`.
    fn finish_if_asked(
        &self,
        (trace_id, decided): (TraceId, Sampling),
        sampling: Sampling,
        pass: Outgoing,
        ids: &IdGenerator,
        tally: &mut Tally,
    ) -> Outgoing {
        match self.start_if_missing(sampling, pass, ids, tally) {
            Outgoing::Context(started) => Outgoing::Context(TraceContext {
                trace_id,
                sampling: match decided {
                    Sampling::Deferred => started.sampling,
                    decided => decided,
                },
                // Who made the id is not known.
                random: false,
                ..started
            }),
            passed => passed,
        }
    }

    fn restart(
        &self,
        previous: TraceId,
        sampling: Sampling,
        ids: &IdGenerator,
        tally: &mut Tally,
    ) -> Decision {
        tally.count(Counter::Restarted);
        Decision {
            outgoing: Outgoing::Context(self.start(sampling, ids)),
            previous_trace_id: Some(previous),
        }
    }

    fn start(&self, sampling: Sampling, ids: &IdGenerator) -> TraceContext {
        TraceContext {
            trace_id: ids.trace_id(),
            span_id: ids.span_id(),
            sampling,
            random: self.random_flag,
            b3_parent: None,
        }
    }
}
