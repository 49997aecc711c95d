//! Which callers' context is believed.

use core::net::{IpAddr, SocketAddr};
use core::str;

use ipnet::IpNet;
use meshtrace_headers::Headers;
use serde::Deserialize;

/// The side of the mesh on which the request came in (`xds.listener_direction`).
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
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

/// Who sent the request, as far as the host told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer<'a> {
    /// `source.address`: an address and a port as text.
    pub address: Option<&'a [u8]>,
    /// The listener's side.
    pub direction: Direction,
    /// What this filter kept of its own ([`TraceContext::to_bytes`]) when it saw the request before:
    /// after an internal redirect the host runs its filters anew. Nobody else can have set it.
    ///
    /// [`TraceContext::to_bytes`]: crate::TraceContext::to_bytes
    pub own: Option<&'a [u8]>,
}

/// The conditions under which a caller is not believed; all that are set must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Untrusted {
    pub(crate) not_from: Option<Vec<IpNet>>,
    pub(crate) header_absent: Option<Box<[u8]>>,
    pub(crate) direction: Option<Direction>,
}

impl Untrusted {
    pub(crate) fn holds(&self, headers: &Headers<'_>, peer: Peer<'_>) -> bool {
        let outside = self
            .not_from
            .as_ref()
            .is_none_or(|networks| !is_within(peer.address, networks));
        let absent = self
            .header_absent
            .as_ref()
            .is_none_or(|name| !headers.contains(name));
        let direction = self
            .direction
            .is_none_or(|direction| direction == peer.direction);
        outside && absent && direction
    }
}

/// An address that cannot be read lies in no network.
fn is_within(address: Option<&[u8]>, networks: &[IpNet]) -> bool {
    address
        .and_then(ip)
        .is_some_and(|ip| networks.iter().any(|network| network.contains(&ip)))
}

fn ip(address: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(address).ok()?;
    let ip = match text.parse::<SocketAddr>() {
        Ok(address) => address.ip(),
        Err(_) => text.parse().ok()?,
    };
    Some(ip.to_canonical())
}
