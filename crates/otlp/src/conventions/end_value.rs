//! The values that are read from the host at a request's end, each by its name.

use meshtrace_envoy::attribute::{self, AttributePath};

/// A value that is read from the host when a request is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum EndValue {
    /// The status code of the response.
    Code,
    /// Envoy's response flags, as bits.
    Flags,
    /// The HTTP version.
    Protocol,
    /// The address of the peer that sent the request.
    Source,
    /// The size of the request's body.
    RequestSize,
    /// The size of the response's body.
    ResponseSize,
    /// The upstream cluster.
    Cluster,
    /// The address of the upstream.
    Upstream,
    /// How many upstreams were tried.
    Attempts,
    /// What made the response, or what ended it.
    CodeDetails,
    /// The direction of the listener.
    Direction,
}

impl EndValue {
    /// Every value, in the order in which the values are read.
    pub const ALL: [Self; 11] = [
        Self::Code,
        Self::Flags,
        Self::Protocol,
        Self::Source,
        Self::RequestSize,
        Self::ResponseSize,
        Self::Cluster,
        Self::Upstream,
        Self::Attempts,
        Self::CodeDetails,
        Self::Direction,
    ];

    /// The attribute of Envoy that has this value.
    #[must_use]
    pub const fn path(self) -> AttributePath {
        match self {
            Self::Code => attribute::RESPONSE_CODE,
            Self::Flags => attribute::RESPONSE_FLAGS,
            Self::Protocol => attribute::REQUEST_PROTOCOL,
            Self::Source => attribute::SOURCE_ADDRESS,
            Self::RequestSize => attribute::REQUEST_SIZE,
            Self::ResponseSize => attribute::RESPONSE_SIZE,
            Self::Cluster => attribute::CLUSTER_NAME,
            Self::Upstream => attribute::UPSTREAM_ADDRESS,
            Self::Attempts => attribute::UPSTREAM_REQUEST_ATTEMPT_COUNT,
            Self::CodeDetails => attribute::RESPONSE_CODE_DETAILS,
            Self::Direction => attribute::LISTENER_DIRECTION,
        }
    }

    /// Whether the value is present also where Envoy answered the request itself.
    #[must_use]
    pub const fn is_known_without_upstream(self) -> bool {
        matches!(
            self,
            Self::Code
                | Self::Flags
                | Self::Protocol
                | Self::Source
                | Self::RequestSize
                | Self::ResponseSize
        )
    }
}

/// The values of one request; absent where the host has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndValues<'a>([Option<&'a [u8]>; EndValue::ALL.len()]);

impl<'a> EndValues<'a> {
    /// Sets the bytes of `value`.
    pub fn set(&mut self, value: EndValue, bytes: Option<&'a [u8]>) {
        if let Some(place) = self.0.get_mut(value as usize) {
            *place = bytes;
        }
    }

    /// The bytes of `value`, as the host returned them.
    #[must_use]
    pub fn get(&self, value: EndValue) -> Option<&'a [u8]> {
        self.0.get(value as usize).copied().flatten()
    }
}
