//! What Envoy's own tracers and Istio call things: the attributes of `envoy_attributes`, and the name
//! of an operation.

use meshtrace_headers::host_and_port;

use super::end::End;
use super::request::{Name, Request};
use crate::attributes::Attributes;
use crate::limits::{MAX_URL, MAX_VALUE};
use crate::span::Kind;

/// The attributes that `envoy_attributes` adds to a span, besides those of the node (`Tags` in
/// `source/common/tracing/http_tracer_impl.h` of Envoy). Envoy's tracers write each value as text.
pub const ENVOY_KEYS: [&str; 10] = [
    "guid:x-request-id",
    "http.method",
    "http.protocol",
    "http.status_code",
    "http.url",
    "peer.address",
    "request_size",
    "response_size",
    "upstream_cluster",
    "user_agent",
];

impl Request<'_> {
    /// Adds the attributes of Envoy's tracers that are the same for every target.
    pub fn describe_as_envoy(&self, attributes: &mut Attributes) {
        for (key, value) in [
            ("http.method", self.method),
            ("user_agent", self.user_agent),
            ("guid:x-request-id", self.request_id),
        ] {
            if !value.is_empty() {
                attributes.text_up_to(key, value, MAX_VALUE);
            }
        }
    }

    /// Adds the URL without its query, which may have secrets, as Envoy's tracers name it.
    pub fn describe_url_as_envoy(&self, attributes: &mut Attributes) {
        if let Some(url) = self.url() {
            attributes.text_up_to("http.url", &url, MAX_URL);
        }
    }
}

impl End<'_> {
    /// Adds the attributes of Envoy's tracers that are known at the end of a request.
    pub fn describe_as_envoy(&self, kind: Kind, attributes: &mut Attributes) {
        let peer = match kind {
            Kind::Server => host_and_port(self.source).0,
            Kind::Client => self.upstream,
        };
        for (key, value) in [
            ("http.protocol", self.protocol),
            ("peer.address", peer),
            ("upstream_cluster", self.cluster),
        ] {
            if !value.is_empty() {
                attributes.text_up_to(key, value, MAX_VALUE);
            }
        }
        for (key, number) in [
            ("http.status_code", self.code.map(i64::from)),
            ("request_size", self.request_size),
            ("response_size", self.response_size),
        ] {
            if let Some(number) = number {
                let mut text = itoa::Buffer::new();
                attributes.text(key, text.format(number).as_bytes());
            }
        }
    }

    /// The name that Istio gives to the spans of Envoy's own tracers, `HOST:PORT/*`
    /// (`TraceOperation` in `pilot/pkg/networking/telemetry` of Istio). `None` where the request's
    /// cluster is none of Istio, or is one without a host, as those of inbound listeners are.
    #[must_use]
    pub fn operation(&self) -> Option<Name> {
        // DIRECTION|PORT|SUBSET|HOST
        let mut parts = self.cluster.split(|byte| *byte == b'|');
        let (_direction, port, _subset, host) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_port = !port.is_empty() && port.iter().all(u8::is_ascii_digit);
        let is_istio = is_port && !host.is_empty() && parts.next().is_none();
        is_istio.then(|| Name::concat(&[host, b":", port, b"/*"]))
    }
}
