//! Continuing, starting or restarting the trace.

use crate::config::{IncomingMode, OnMissing};
use crate::extract::{Found, Incoming, Unfinished};
use crate::propagation::Propagation;
use crate::{Counter, IdGenerator, Outgoing, SamplingState, SpanId, Tally, TraceContext, TraceId};

/// Whether the trace is continued, and with which context.
#[derive(Clone, Copy, Debug)]
pub struct TraceDecision {
    /// The context that the next hop gets.
    pub outgoing: Outgoing,
    /// The trace that came in, where it is not continued.
    pub previous_trace_id: Option<TraceId>,
}

/// The context that a hop with a span of its own injects for the next hop.
#[derive(Clone, Copy, Debug)]
pub struct Participation {
    /// The hop's own span. Its `sampling` is deferred where no trusted caller has decided.
    pub context: TraceContext,
    /// The calling span; `None` where the trace begins here.
    pub parent: Option<SpanId>,
    /// The trace that came in, where it is not continued.
    pub previous_trace_id: Option<TraceId>,
}

impl Unfinished {
    /// Moves `started`, a span in a trace of its own, into this trace.
    fn begin(self, started: TraceContext) -> TraceContext {
        TraceContext {
            trace_id: self.trace_id,
            sampling: match self.sampling {
                SamplingState::Deferred => started.sampling,
                decided => decided,
            },
            // It is not known who made the id.
            random: false,
            ..started
        }
    }
}

impl Propagation {
    /// Continues what came in with a span of this hop's own, or starts a trace with it (W3C Trace
    /// Context, section 3.5, "Mutating the traceparent Field": a participating hop updates
    /// `parent-id`).
    ///
    /// Unlike [`decide`](Self::decide) it starts a trace whatever the value of `on_missing` is.
    pub fn participate(
        &self,
        incoming: &Incoming<'_>,
        ids: &IdGenerator,
        tally: &mut Tally,
    ) -> Participation {
        let root = |sampling, previous_trace_id| Participation {
            context: self.start(sampling, ids),
            parent: None,
            previous_trace_id,
        };
        match (incoming.mode, incoming.found) {
            (IncomingMode::Ignore, _) => {
                tally.count(Counter::Ignored);
                tally.count(Counter::Generated);
                root(SamplingState::Deferred, None)
            }
            // An untrusted caller's decision is not trusted either.
            (IncomingMode::Restart, Found::Context(_, context)) => {
                tally.count(Counter::Restarted);
                root(SamplingState::Deferred, Some(context.trace_id))
            }
            (IncomingMode::Restart, _) => {
                tally.count(Counter::Generated);
                root(
                    SamplingState::Deferred,
                    incoming.unfinished.map(|trace| trace.trace_id),
                )
            }
            // The span is the first of a trace that has an id.
            (IncomingMode::Continue, Found::Nothing | Found::Sampling(..))
                if let Some(trace) = incoming.unfinished =>
            {
                tally.count(Counter::Generated);
                Participation {
                    context: trace.begin(self.start(trace.sampling, ids)),
                    parent: None,
                    previous_trace_id: None,
                }
            }
            (IncomingMode::Continue, Found::Nothing) => {
                tally.count(Counter::Generated);
                root(SamplingState::Deferred, None)
            }
            (IncomingMode::Continue, Found::Sampling(_, sampling)) => {
                tally.count(Counter::Generated);
                root(sampling, None)
            }
            (IncomingMode::Continue, Found::Context(_, context))
                if self.restarts_on_conflict(incoming) =>
            {
                tally.count(Counter::Restarted);
                root(context.sampling, Some(context.trace_id))
            }
            (IncomingMode::Continue, Found::Context(_, context)) => Participation {
                context: TraceContext {
                    span_id: ids.span_id(),
                    b3_parent: Some(context.span_id),
                    sampling: incoming.decided.unwrap_or(context.sampling),
                    ..context
                },
                parent: Some(context.span_id),
                previous_trace_id: None,
            },
        }
    }

    /// Continues the context that came in, or starts a trace where the configuration requires it.
    pub fn decide(
        &self,
        incoming: &Incoming<'_>,
        ids: &IdGenerator,
        tally: &mut Tally,
    ) -> TraceDecision {
        let start = if self.start.sampled {
            SamplingState::Sampled
        } else {
            SamplingState::NotSampled
        };
        let continued = |outgoing| TraceDecision {
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
            // An untrusted caller's decision is not trusted either.
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
        sampling: SamplingState,
        pass: Outgoing,
        ids: &IdGenerator,
        tally: &mut Tally,
    ) -> Outgoing {
        match self.start.on_missing {
            OnMissing::Pass => pass,
            OnMissing::Generate => {
                tally.count(Counter::Generated);
                Outgoing::Context(self.start(sampling, ids))
            }
        }
    }

    /// Starts a span in a trace whose id came without a span. The trace's own decision overrides
    /// `sampling`.
    fn finish_if_asked(
        &self,
        trace: Unfinished,
        sampling: SamplingState,
        pass: Outgoing,
        ids: &IdGenerator,
        tally: &mut Tally,
    ) -> Outgoing {
        match self.start_if_missing(sampling, pass, ids, tally) {
            Outgoing::Context(started) => Outgoing::Context(trace.begin(started)),
            passed => passed,
        }
    }

    fn restart(
        &self,
        previous: TraceId,
        sampling: SamplingState,
        ids: &IdGenerator,
        tally: &mut Tally,
    ) -> TraceDecision {
        tally.count(Counter::Restarted);
        TraceDecision {
            outgoing: Outgoing::Context(self.start(sampling, ids)),
            previous_trace_id: Some(previous),
        }
    }

    fn start(&self, sampling: SamplingState, ids: &IdGenerator) -> TraceContext {
        TraceContext {
            trace_id: ids.trace_id(),
            span_id: ids.span_id(),
            sampling,
            random: self.start.random_flag,
            b3_parent: None,
        }
    }
}
