//! The names of the headers that a mutation reads and writes.

use meshtrace_propagation::{Field, format};

pub(super) const TRACEPARENT: &str = "traceparent";
pub(super) const TRACESTATE: &str = "tracestate";
pub(super) const B3: &str = "b3";
pub(super) const B3_TRACE_ID: &str = "x-b3-traceid";
pub(super) const B3_SPAN_ID: &str = "x-b3-spanid";
pub(super) const B3_PARENT: &str = "x-b3-parentspanid";
pub(super) const B3_SAMPLED: &str = "x-b3-sampled";
pub(super) const B3_FLAGS: &str = "x-b3-flags";

/// Makes Envoy sample the trace that it starts (`client_sampling`), for any caller.
pub(super) const CLIENT_TRACE_ID: &str = "x-client-trace-id";
/// Makes Envoy sample the trace that it starts, for a caller that counts as internal.
pub(super) const FORCE_TRACE: &str = "x-envoy-force-trace";
/// Holds a sampling decision, or the number by which `random_sampling` decides.
pub(super) const REQUEST_ID: &str = "x-request-id";
/// The name of the proxy's span.
pub(super) const SPAN_NAME: &str = "x-envoy-decorator-operation";
/// Sets the attribute `downstream_cluster` of the proxy's span.
pub(super) const CALLERS_CLUSTER: &str = "x-envoy-downstream-service-cluster";

/// Has the address of the caller that is behind another proxy.
pub(super) const FORWARDED_FOR: &str = "x-forwarded-for";

/// Helper headers. One mutation writes them and a later one reads them. They are removed before and
/// after.
pub(super) mod helper {
    /// The header is present where the caller is trusted.
    pub(in crate::early) const BELIEVED: &str = "x-meshtrace-early-believed";
    /// Holds a header of a trusted caller until it is put back.
    pub(in crate::early) const KEPT: &str = "x-meshtrace-early-kept";

    macro_rules! helpers {
        ($($(#[$doc:meta])* $name:ident = $suffix:literal,)*) => {
            $($(#[$doc])* pub(in crate::early) const $name: &str = concat!("x-meshtrace-early-", $suffix);)*
            /// The helper headers for a context that is continued.
            pub(in crate::early) const ALL: &[&str] = &[$($name,)*];
        };
    }

    helpers! {
        /// First line of `b3`.
        B3 = "b3",
        /// First line of `x-b3-traceid`.
        TRACE_ID = "traceid",
        /// First line of `x-b3-spanid`.
        SPAN_ID = "spanid",
        /// First line of `x-b3-parentspanid`.
        PARENT = "parentspanid",
        /// First line of `x-b3-sampled`.
        SAMPLED = "sampled",
        /// First line of `x-b3-flags`.
        FLAGS = "flags",
        /// Several values of `traceparent`: the pattern of all of them, if they name one trace.
        SEVERAL = "several",
        /// The first 55 bytes of `traceparent`: its first value, where it has version 00.
        FIRST = "first",
        /// The first 55 bytes of `traceparent`, which every version has, and the byte after them.
        KNOWN = "known",
        /// The context of `traceparent`, as a `traceparent` of version 00.
        FROM_TRACECONTEXT = "from-tracecontext",
        /// The context of `b3`, as a `traceparent`.
        FROM_B3 = "from-b3",
        /// The context of `x-b3-*`, as a `traceparent`.
        FROM_B3_MULTI = "from-b3multi",
        /// A candidate with a trace id of 64 bits, until it is complete.
        NARROW = "narrow",
        /// The decision of `x-b3-*` without ids: `0` or `1`.
        B3_MULTI_DECISION = "b3multi-decision",
        /// The candidate whose context is continued.
        CHOSEN = "chosen",
        /// The version and the trace id of the chosen candidate.
        CHOSEN_TRACE = "chosen-trace",
        /// The header is present where `x-b3-*` leave as they came.
        KEEPS_B3_MULTI = "keeps-b3multi",
        /// The `tracestate` that leaves.
        TRACESTATE = "tracestate",
        /// The `traceparent` that leaves.
        TRACEPARENT = "traceparent",
        /// A random UUID.
        UNIQUE = "unique",
    }
}

/// A format that an expression can read. [`Limit::OtherFormatsUnread`] is the limit for the others.
///
/// [`Limit::OtherFormatsUnread`]: super::Limit::OtherFormatsUnread
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Tracecontext,
    B3,
    B3Multi,
}

impl Format {
    pub(super) fn new(format: format::Format) -> Option<Self> {
        match format {
            format::Format::Tracecontext => Some(Self::Tracecontext),
            format::Format::B3 => Some(Self::B3),
            format::Format::B3Multi => Some(Self::B3Multi),
            _ => None,
        }
    }
}

/// The formats of `extract` that an expression can read, in the order of `extract`.
pub(super) fn readable(extract: Option<&[format::Format]>) -> Vec<Format> {
    let extract = extract.unwrap_or(format::Format::EXTRACTED_BY_DEFAULT);
    extract.iter().copied().filter_map(Format::new).collect()
}

/// The helper header with the candidate of `format`.
pub(super) fn candidate(format: Format) -> &'static str {
    match format {
        Format::Tracecontext => helper::FROM_TRACECONTEXT,
        Format::B3 => helper::FROM_B3,
        Format::B3Multi => helper::FROM_B3_MULTI,
    }
}

/// The `x-b3-*` headers, each with the helper that holds its first line.
pub(super) const B3_MULTI: [(&str, &str); 5] = [
    (B3_TRACE_ID, helper::TRACE_ID),
    (B3_SPAN_ID, helper::SPAN_ID),
    (B3_PARENT, helper::PARENT),
    (B3_SAMPLED, helper::SAMPLED),
    (B3_FLAGS, helper::FLAGS),
];

/// The name of `field` as text.
pub(super) fn name(field: Field) -> &'static str {
    str::from_utf8(field.name()).unwrap_or_default()
}
