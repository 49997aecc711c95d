//! The keys of the filter state that this project's filters set.
//!
//! All of them are reserved: no attribute of a configuration and no managed header may have one of
//! these keys. Envoy puts [`WASM_PREFIX`] before every key that a Wasm filter sets (Envoy, "Wasm":
//! `set_property`).

/// What Envoy puts before the key of filter state that a Wasm filter sets.
pub const WASM_PREFIX: &str = "wasm.";

macro_rules! keys {
    ($($(#[$doc:meta])* $key:ident = $name:literal,)*) => {
        $($(#[$doc])* pub const $key: &str = $name;)*

        /// Every key, without [`WASM_PREFIX`].
        pub const ALL: &[&str] = &[$($key,)*];
    };
}

keys! {
    /// The trace id, 32 digits.
    TRACE_ID = "trace_id",
    /// The id of the proxy's span, 16 digits.
    SPAN_ID = "span_id",
    /// The id of the caller's span, 16 digits.
    PARENT_SPAN_ID = "parent_span_id",
    /// W3C's flags, two digits.
    TRACE_FLAGS = "trace_flags",
    /// The format that the trace came in.
    TRACE_FORMAT = "trace_format",
    /// The right half of the trace id, decimal.
    TRACE_ID_DATADOG = "trace_id_datadog",
    /// The span id, decimal.
    SPAN_ID_DATADOG = "span_id_datadog",
    /// The trace id as Google Cloud Logging links it.
    TRACE_ID_GCP = "trace_id_gcp",
    /// The right half of the trace id, 16 digits.
    TRACE_ID_B3_64 = "trace_id_b3_64",
    /// The trace that came in and is not continued.
    PREVIOUS_TRACE_ID = "previous_trace_id",
    /// What `route_sampling` decided.
    SAMPLING_DECISION = "sampling_decision",
}
