//! The traffic direction of a listener.

/// The side of the mesh on which the request came in (`xds.listener_direction`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "lowercase")
)]
pub enum Direction {
    /// A listener with no traffic direction: any standalone Envoy's.
    #[default]
    Unspecified,
    /// From the network to the workload beside the proxy.
    Inbound,
    /// From that workload, or through a gateway.
    Outbound,
}

impl Direction {
    /// The direction's name in metrics.
    pub(crate) const fn in_metrics(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

meshtrace_config::words!(Direction {
    Unspecified = "unspecified",
    Inbound = "inbound",
    Outbound = "outbound",
});
