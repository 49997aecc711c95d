//! The limits of a rendered mutation, as data.

use core::fmt;

use meshtrace_propagation::{B3TraceIdBits, IncomingMode, OnConflict, TraceContextConfig};

use super::names::{Format, readable};
use super::{Tracer, edge};

macro_rules! limits {
    ($($(#[$doc:meta])* $limit:ident = $sentence:literal,)*) => {
        /// A limit of an early header mutation: what it cannot do, or does otherwise than the Wasm
        /// filter. It is displayed as a sentence.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Limit {
            $($(#[$doc])* $limit,)*
        }

        impl Limit {
            /// Every limit.
            pub const ALL: &'static [Self] = &[$(Self::$limit,)*];

            /// The limit in one sentence.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$limit => $sentence,)*
                }
            }
        }
    };
}

limits! {
    /// `tracestate` is not parsed.
    TracestateUnchecked = "`tracestate` goes on with its trace as it came, repeated lines joined by \
        a comma; it is dropped where a byte is not printable ASCII, not where its members are \
        malformed.",
    /// Several values, and a comma in the tail of a later version.
    LaterVersionWithComma = "Several values of `traceparent` are refused where one has a later \
        version, also where they name one trace, and so is one of a later version with a comma in its \
        tail: CEL sees repeated lines joined by commas.",
    /// Flags of a later version.
    LaterVersionFlags = "A `traceparent` of a later version becomes one of version 00 with the \
        sampled flag alone; its `random` flag is lost.",
    /// Upper-case B3 before a tracer that reads W3C.
    UpperCaseB3Refused = "Upper-case ids in B3 are refused although `b3_strict` is false: CEL \
        cannot lower a letter.",
    /// Upper-case B3 before a Zipkin tracer.
    UpperCaseB3OtherTrace = "A B3 trace id in upper case counts as another trace than the same id \
        in `traceparent`, which is then removed.",
    /// Two formats with one span and two decisions.
    SameSpanOtherDecision = "Where two formats name one trace and differ in the decision, the one \
        listed first wins; the filter lets debug win, and a decision over none.",
    /// A trace id of 64 bits in B3 beside the whole one.
    HalfIdOtherTrace = "A B3 trace id of 64 bits counts as another trace than the id of 128 bits \
        whose right half it is; the filter takes both for one.",
    /// `on_conflict: restart`.
    ConflictNotRestarted = "`on_conflict: restart` is not applied: the format listed first is \
        continued.",
    /// `b3: 0` before the OpenTelemetry tracer.
    DenialWithoutIds = "A denial without ids (`b3: 0`) becomes a `traceparent` of random ids with \
        flags 00: the proxy's trace stays unsampled, with a parent that nobody reports, unless an \
        OpenTelemetry sampler ignores its parent.",
    /// `b3: 1` before the OpenTelemetry tracer.
    AcceptanceWithoutIds = "An acceptance without ids (`b3: 1`, `b3: d`) becomes \
        `x-client-trace-id`, which Envoy obeys where `client_sampling` is not 0; with `route_sampling` the \
        rules decide.",
    /// A sampled parent before the OpenTelemetry tracer.
    SampledByClientTraceId = "A sampled context becomes `x-client-trace-id` too: from Envoy 1.39 the \
        OpenTelemetry tracer drops it otherwise where `random_sampling` is below 100. Remove that header \
        behind the tracer, by `request_headers_to_remove` of the virtual hosts.",
    /// Debug before the OpenTelemetry tracer.
    DebugIsSampled = "B3's debug flag becomes the sampled flag, as W3C has no other.",
    /// A deferred decision before a Zipkin tracer.
    DeferredByTracer = "`on_defer` is not applied to B3: a Zipkin tracer takes a deferred decision \
        itself, by its sampling settings.",
    /// A parent without a state before a Zipkin tracer.
    ParentWithoutState = "The parent of a `b3` without a sampling state is dropped: the Zipkin \
        tracer refuses the whole header otherwise.",
    /// `b3_trace_id_bits: 64`.
    TraceIdBitsIgnored = "`b3_trace_id_bits: 64` is not applied: `x-b3-traceid` made from \
        `traceparent` has 128 bits.",
    /// Headers of another format that the tracer does not write.
    OtherFormatsUnchanged = "Headers of the same trace that the tracer does not write go on as they \
        came, with the caller's span as the parent; those of another trace are removed.",
    /// A `b3` that the Zipkin tracer leaves.
    B3SingleLeft = "Envoy 1.36 to 1.39 write `x-b3-*` beside a `b3` that they leave as it came.",
    /// Formats beyond W3C and B3.
    OtherFormatsUnread = "Formats other than `tracecontext`, `b3` and `b3multi` are not read: their \
        trace is not continued by the proxy's own span.",
    /// Formats that the tracer reads and the configuration does not.
    UnreadFormatsRemoved = "Headers that the tracer reads and `extract` does not list are removed, \
        as the tracer would continue them.",
    /// `wasm.previous_trace_id`.
    PreviousTraceIdLost = "The id of a trace that is replaced is not kept as filter state \
        `wasm.previous_trace_id`.",
    /// `x-request-id`.
    RequestIdReplaced = "A caller's `x-request-id` is removed, as it decides about sampling, and \
        Envoy makes a new one: the caller's own id is in no log.",
    /// A helper header and an expression for each header of a believed caller.
    BelievedLinesJoined = "Of a believed caller's repeated lines of an id the first goes on, as the \
        filter reads them; those of `traceparent`, of lists and of other headers go on as one, joined by \
        commas, and an empty header is dropped.",
    /// Headers of a family beside a condition on the caller.
    FamiliesLeft = "Headers whose names only begin alike (`uberctx-*`, `ot-baggage-*`, \
        `x-instana-*`) stay where `incoming.when` believes some callers: a mutation cannot put back \
        what it does not know by name.",
    /// `incoming.when.not_from_cidrs`.
    PeerOfConnection = "`incoming.when.not_from_cidrs` is asked of the connection's peer, as \
        `x-forwarded-for` is read later: a request that has this header comes from no network.",
    /// `incoming.when.direction`.
    DirectionOfListener = "`incoming.when.direction` is not looked at: place the mutation only on \
        listeners of that direction.",
}

impl Limit {
    /// The limits that apply to `config` in front of `tracer`, where it `continues` anybody's trace.
    pub(super) fn of(
        config: &TraceContextConfig,
        mode: IncomingMode,
        continues: bool,
        tracer: Tracer,
    ) -> Vec<Self> {
        let removes = mode != IncomingMode::Continue;
        let holds = |limit: &Self| {
            (continues && limit.holds(config, tracer))
                || (removes && limit.holds_at_edge(config, mode))
        };
        Self::ALL.iter().copied().filter(holds).collect()
    }

    fn holds(self, config: &TraceContextConfig, tracer: Tracer) -> bool {
        let extract = readable(config.extract.as_deref());
        let reads = |format| extract.contains(&format);
        let (w3c, single) = (reads(Format::Tracecontext), reads(Format::B3));
        let b3 = single || reads(Format::B3Multi);
        let opentelemetry = tracer == Tracer::OpenTelemetry;
        match self {
            Self::TracestateUnchecked | Self::LaterVersionWithComma | Self::LaterVersionFlags => {
                w3c
            }
            Self::UpperCaseB3Refused => b3 && opentelemetry && !config.b3_strict,
            Self::UpperCaseB3OtherTrace => b3 && w3c && !opentelemetry && !config.b3_strict,
            Self::SameSpanOtherDecision => extract.len() > 1,
            Self::HalfIdOtherTrace => b3 && extract.len() > 1,
            Self::ConflictNotRestarted => config.on_conflict == Some(OnConflict::Restart),
            Self::DenialWithoutIds | Self::AcceptanceWithoutIds | Self::DebugIsSampled => {
                b3 && opentelemetry
            }
            Self::SampledByClientTraceId => opentelemetry,
            Self::DeferredByTracer => b3 && !opentelemetry,
            Self::ParentWithoutState => single && !opentelemetry && !config.b3_strict,
            Self::TraceIdBitsIgnored => {
                config.b3_trace_id_bits == B3TraceIdBits::Bits64
                    && tracer == Tracer::ZipkinB3
                    && w3c
            }
            Self::OtherFormatsUnchanged => {
                (b3 && opentelemetry) || (w3c && tracer == Tracer::ZipkinB3)
            }
            Self::B3SingleLeft => single && !opentelemetry,
            Self::OtherFormatsUnread => config
                .extract
                .as_ref()
                .is_some_and(|listed| listed.len() > extract.len()),
            Self::UnreadFormatsRemoved => readable(None)
                .iter()
                .any(|format| tracer.reads(*format) && !reads(*format)),
            Self::PreviousTraceIdLost
            | Self::RequestIdReplaced
            | Self::BelievedLinesJoined
            | Self::FamiliesLeft
            | Self::PeerOfConnection
            | Self::DirectionOfListener => false,
        }
    }

    fn holds_at_edge(self, config: &TraceContextConfig, mode: IncomingMode) -> bool {
        let when = config.incoming.as_ref().map(|incoming| &incoming.when);
        let networks = when.is_some_and(|when| when.not_from_cidrs.is_some());
        let header = when.is_some_and(|when| when.header_absent.is_some());
        match self {
            Self::PreviousTraceIdLost => mode == IncomingMode::Restart,
            Self::RequestIdReplaced => true,
            Self::BelievedLinesJoined => networks || header,
            Self::FamiliesLeft => {
                (networks || header) && edge::prefixes(config, mode).next().is_some()
            }
            Self::PeerOfConnection => networks,
            Self::DirectionOfListener => when.is_some_and(|when| when.direction.is_some()),
            _ => false,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}
