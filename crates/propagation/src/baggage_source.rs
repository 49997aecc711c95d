//! The formats whose baggage headers are joined.

use crate::vendor;

/// A format that sends baggage in one header an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "lowercase")
)]
pub enum BaggageSource {
    /// `uberctx-*`, URL-encoded (Jaeger client libraries, "Propagation Format").
    Jaeger,
    /// `ot-baggage-*`, as it is (OpenTracing basic tracers).
    Ottrace,
}

impl BaggageSource {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Jaeger, Self::Ottrace];

    /// The prefix of its header names; the entry's key follows.
    #[must_use]
    pub const fn prefix(self) -> &'static [u8] {
        match self {
            Self::Jaeger => vendor::JAEGER.prefix.as_bytes(),
            Self::Ottrace => vendor::OTTRACE.prefix.as_bytes(),
        }
    }
}

meshtrace_config::words!(BaggageSource {
    Jaeger = "jaeger",
    Ottrace = "ottrace",
});
