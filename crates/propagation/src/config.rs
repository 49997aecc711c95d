//! The configuration of propagation, as it is written. `propagation.rs` compiles it.

use meshtrace_config::{Kind, Read, RequestHeaders, Value, object, words};

use crate::OnRepeated;
use crate::baggage_source::BaggageSource;
use crate::direction::Direction;
use crate::format::{B3TraceIdBits, Format, OnDefer};

/// `trace_context.wasm`'s configuration; every key is optional.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
pub struct TraceContextConfig {
    /// Where the filter stands. Default `downstream`.
    pub placement: Placement,
    /// The formats to read, in order; the first valid one wins. Default `tracecontext`, `b3`,
    /// `b3multi`.
    pub extract: Option<Vec<Format>>,
    /// Upstream only, required there: the one format that the proxy's tracer writes. `b3` and
    /// `b3multi` both read either shape of B3, as Envoy's Zipkin tracer writes from 1.40 on the
    /// shape that came in; where the headers do not show which one it wrote, the named one counts.
    pub tracer: Option<Format>,
    /// The formats to write. Default `tracecontext` and `b3multi`.
    pub inject: Option<InjectConfig>,
    /// What `inject: "preserve"` writes when no format came in. Default `tracecontext`.
    pub default_format: Option<Format>,
    /// Formats, or header names, to remove from the request.
    pub clear: Vec<String>,
    /// Destinations that get something else than `inject` and `clear` say; the first match wins.
    pub overrides: Vec<OverrideConfig>,
    /// Whose baggage headers are joined into W3C's `baggage`. Default none.
    pub baggage_from: Vec<BaggageSource>,
    /// Whether to believe the caller's context. Default `continue`.
    pub incoming: Option<IncomingConfig>,
    /// What to do when no context came in. Default `pass`.
    pub on_missing: Option<OnMissing>,
    /// The sampled flag of a trace that is started here. Default false.
    pub generate_sampled: bool,
    /// What to do when two formats name different traces. Default `first`.
    pub on_conflict: Option<OnConflict>,
    /// What becomes of a `traceparent` that came more than once, and of any format's header with
    /// several values joined by commas. Default `same_trace`.
    pub on_repeated: Option<OnRepeated>,
    /// The decision that a format without a "deferred" state (W3C, Jaeger, gRPC) says when none was
    /// made. Default `unsampled`.
    pub on_defer: OnDefer,
    /// The width of trace ids in B3. Default 128.
    pub b3_trace_id_bits: B3TraceIdBits,
    /// Read B3 exactly as specified. Default false.
    pub b3_strict: bool,
    /// Set W3C's `random` flag on traces that are started here. Default false.
    pub random_flag: bool,
    /// How the request's headers are changed: `edit`, or `filter_state` with what `meshtrace render
    /// request-headers` prints. Default `edit`.
    pub request_headers: Option<RequestHeaders>,
}

/// Where the filter stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "lowercase")
)]
pub enum Placement {
    /// An HTTP filter of the listener.
    #[default]
    Downstream,
    /// An upstream HTTP filter, after the proxy's tracer has written its headers.
    Upstream,
}

/// What to write.
#[derive(Clone, Debug)]
pub enum InjectConfig {
    /// These formats.
    Formats(Vec<Format>),
    /// The format that came in.
    Preserve,
}

/// What one destination gets in place of the top level's `inject` and `clear`.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
pub struct OverrideConfig {
    /// The upstream cluster's name, to the letter. Either this or `host`.
    pub cluster: Option<String>,
    /// The host of `:authority`, without port and whatever its case; `*.example.com` is every host
    /// below that domain.
    pub host: Option<String>,
    /// The formats to write. Default the top level's, less what this entry clears.
    pub inject: Option<InjectConfig>,
    /// Formats, or header names, to remove from the request. Default the top level's.
    pub clear: Option<Vec<String>>,
}

/// Whether to believe the caller's context.
#[derive(Clone, Debug, Default)]
pub struct IncomingConfig {
    /// What happens to it.
    pub mode: IncomingMode,
    /// When it happens; every caller when absent.
    pub when: WhenConfig,
}

/// What happens to the context of a caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "lowercase")
)]
pub enum IncomingMode {
    /// It is continued.
    #[default]
    Continue,
    /// It is replaced by a new trace.
    Restart,
    /// It is stripped.
    Ignore,
}

/// The callers that are not believed; all conditions that are set must hold.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(default, deny_unknown_fields)
)]
pub struct WhenConfig {
    /// The downstream address lies in none of these networks.
    pub not_from_cidrs: Option<Vec<String>>,
    /// The request has no header of this name.
    pub header_absent: Option<String>,
    /// The listener's traffic direction.
    pub direction: Option<Direction>,
}

/// What to do when no context came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "lowercase")
)]
pub enum OnMissing {
    /// Nothing.
    #[default]
    Pass,
    /// Start a trace: for proxies without a tracer.
    Generate,
}

/// What to do when two formats name different traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "lowercase")
)]
pub enum OnConflict {
    /// The format listed first wins.
    #[default]
    First,
    /// A new trace is started.
    Restart,
}

object!(TraceContextConfig {
    placement,
    extract,
    tracer,
    inject,
    default_format,
    clear,
    overrides,
    baggage_from,
    incoming,
    on_missing,
    generate_sampled,
    on_conflict,
    on_repeated,
    on_defer,
    b3_trace_id_bits,
    b3_strict,
    random_flag,
    request_headers,
});

object!(OverrideConfig {
    cluster,
    host,
    inject,
    clear,
});

object!(IncomingConfig {
    mode: required,
    when,
} or IncomingConfig::always, expected "a mode or an object of `mode` and `when`");

object!(WhenConfig {
    not_from_cidrs,
    header_absent,
    direction,
});

words!(Placement {
    Downstream = "downstream",
    Upstream = "upstream",
});

words!(IncomingMode {
    Continue = "continue",
    Restart = "restart",
    Ignore = "ignore",
});

words!(OnMissing {
    Pass = "pass",
    Generate = "generate",
});

words!(OnConflict {
    First = "first",
    Restart = "restart",
});

impl Read for InjectConfig {
    fn read(value: Value<'_>) -> Self {
        match value.kind() {
            Kind::List => Self::Formats(Read::read(value)),
            _ if value.quiet_text().as_deref() == Some("preserve") => Self::Preserve,
            _ => {
                value.refuse_form("\"preserve\" or a list of formats");
                Self::Preserve
            }
        }
    }
}

impl IncomingConfig {
    /// Reads a mode, which is for every caller.
    fn always(mode: Value<'_>) -> Self {
        Self {
            mode: Read::read(mode),
            when: WhenConfig::default(),
        }
    }
}
