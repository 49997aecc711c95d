//! Which callers' contexts are trusted.

use core::net::{IpAddr, SocketAddr};
use core::str;

use ipnet::IpNet;
use meshtrace_config::{ConfigError, Mistakes, each};
use meshtrace_headers::{Headers, read_name};

use crate::config::{IncomingConfig, IncomingMode};
use crate::direction::Direction;

/// The sender of the request, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer<'a> {
    /// `source.address`: an address and a port as text.
    pub address: Option<&'a [u8]>,
    /// The traffic direction of the listener.
    pub direction: Direction,
    /// The context that this filter kept ([`TraceContext::to_bytes`]) when it handled the request
    /// before: after an internal redirect the host runs its filters again. Only this filter can
    /// have set it.
    ///
    /// [`TraceContext::to_bytes`]: crate::TraceContext::to_bytes
    pub own: Option<&'a [u8]>,
}

/// The callers that are not trusted, and what happens to their context.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    /// What happens to the context of a caller that is not trusted.
    pub(crate) mode: IncomingMode,
    // The conditions under which a caller is not trusted; all that are set must hold.
    not_from: Option<Vec<IpNet>>,
    header_absent: Option<Box<[u8]>>,
    direction: Option<Direction>,
}

impl Trust {
    /// Compiles `incoming`.
    ///
    /// # Errors
    /// When a condition is impossible, with the path of its key.
    #[inline(never)]
    pub(crate) fn new(config: Option<&IncomingConfig>) -> Result<Self, ConfigError> {
        let Some(IncomingConfig { mode, when }) = config else {
            return Ok(Self::default());
        };
        let header_absent = when.header_absent.as_deref().map(|name| {
            read_name(name).map_err(|refusal| {
                ConfigError::invalid_text("incoming.when.header_absent", name, &refusal)
            })
        });
        let mut mistakes = Mistakes::default();
        let not_from = when.not_from_cidrs.as_deref().map(networks).transpose();
        let not_from = mistakes.keep(not_from);
        let header_absent = mistakes.keep(header_absent.transpose());
        let (not_from, header_absent) = mistakes.finish(not_from.zip(header_absent))?;
        Ok(Self {
            mode: *mode,
            not_from,
            header_absent,
            direction: when.direction,
        })
    }

    /// Whether a condition is about the caller's address.
    pub(crate) fn needs_address(&self) -> bool {
        self.not_from.is_some()
    }

    /// Whether a condition is about the listener's direction.
    pub(crate) fn needs_direction(&self) -> bool {
        self.direction.is_some()
    }

    /// What happens to the context of this caller.
    pub(crate) fn mode_for(&self, headers: &Headers<'_>, peer: Peer<'_>) -> IncomingMode {
        match self.mode {
            IncomingMode::Continue => IncomingMode::Continue,
            mode if self.applies_to(headers, peer) => mode,
            _ => IncomingMode::Continue,
        }
    }

    /// Whether all conditions hold.
    fn applies_to(&self, headers: &Headers<'_>, peer: Peer<'_>) -> bool {
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

fn networks(texts: &[String]) -> Result<Vec<IpNet>, ConfigError> {
    let expected = "expected a network such as \"10.0.0.0/8\"";
    each("incoming.when.not_from_cidrs", texts, |_, text| {
        text.parse()
            .map_err(|_| ConfigError::invalid_text("", text, &expected))
    })
}

/// Whether `address` lies in one of the `networks`. An address that cannot be read lies in none.
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
