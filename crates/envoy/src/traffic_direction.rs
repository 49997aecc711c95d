//! The direction of a listener: `envoy.config.core.v3.TrafficDirection`. A listener that sets none
//! has `UNSPECIFIED`, 0.

/// Requests come in to the workload beside the proxy.
pub const INBOUND: u64 = 1;
/// Requests leave the workload beside the proxy.
pub const OUTBOUND: u64 = 2;
