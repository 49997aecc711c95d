//! The request that is explained.

use std::collections::BTreeMap;

use meshtrace_envoy::{attribute, traffic_direction};
use meshtrace_propagation::Direction;

/// A request, and the values that a proxy would have about it.
#[derive(Clone, Debug, Default)]
pub struct SentRequest {
    /// The header lines, with the pseudo-headers first. Names are lower-case, as in Envoy.
    pub headers: Vec<(String, String)>,
    /// The address of the client or proxy that sent it, with or without a port.
    pub peer: Option<String>,
    /// The direction of the listener.
    pub direction: Direction,
    /// The upstream cluster to which the request is routed.
    pub cluster: Option<String>,
    /// The name of the route.
    pub route: Option<String>,
    /// Other properties of the proxy, by their paths with dots between the elements.
    pub properties: BTreeMap<String, String>,
    /// The environment of the VM.
    pub environment: BTreeMap<String, String>,
}

impl SentRequest {
    /// A request without any headers but these.
    #[must_use]
    pub fn new(method: &str, path: &str, authority: &str) -> Self {
        let line = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            headers: vec![
                line(":method", method),
                line(":path", path),
                line(":authority", authority),
                line(":scheme", "http"),
            ],
            ..Self::default()
        }
    }

    /// Adds a header line. Its name is converted to lower case.
    pub fn add(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        self.headers.push((name, value.to_owned()));
    }

    /// The property at `path`, with NUL between the elements.
    pub(crate) fn property(&self, path: &[u8]) -> Option<Box<[u8]>> {
        if let Some(value) = self.properties.get(&dotted(path)) {
            return Some(value.as_bytes().into());
        }
        let text = |value: &Option<String>| value.as_deref().map(|text| text.as_bytes().into());
        let is = |known: attribute::AttributePath| path == known.property;
        if is(attribute::ROUTE_NAME) {
            text(&self.route)
        } else if is(attribute::CLUSTER_NAME) {
            text(&self.cluster)
        } else if is(attribute::SOURCE_ADDRESS) {
            text(&self.peer)
        } else if is(attribute::LISTENER_DIRECTION) {
            let number = match self.direction {
                Direction::Inbound => traffic_direction::INBOUND,
                Direction::Outbound => traffic_direction::OUTBOUND,
                Direction::Unspecified => return None,
            };
            Some(Box::new(number.to_le_bytes()))
        } else {
            None
        }
    }
}

/// The path of a property with dots, as people write it.
pub(crate) fn dotted(path: &[u8]) -> String {
    String::from_utf8_lossy(path).replace('\0', ".")
}
