//! What a tracer gets from Envoy about a request that has ended: the tags that Envoy sets.
//!
//! A tag with an attribute in OpenTelemetry becomes that attribute. The other tags, also
//! `custom_tags`, are reported unchanged.

use meshtrace_envoy::response_flag::SHORT_NAMES;
use meshtrace_headers::Headers;
use meshtrace_otlp::Attributes;
use meshtrace_otlp::conventions::{self, End, EndValue, EndValues, Seen};

/// Tags in the order in which they were set. The memory is used again for other spans.
#[derive(Debug, Default)]
pub(crate) struct Tags(Vec<u8>);

/// The most bytes of the tags of one span.
const MAX_BYTES: usize = 64 * 1024;
const LENGTH: usize = 4;

impl Tags {
    /// Adds a tag. A tag that has no room is left out.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) {
        let (Ok(key_length), Ok(value_length)) =
            (u32::try_from(key.len()), u32::try_from(value.len()))
        else {
            return;
        };
        if self.0.len() + key.len() + value.len() + 2 * LENGTH > MAX_BYTES {
            return;
        }
        self.0.extend_from_slice(&key_length.to_le_bytes());
        self.0.extend_from_slice(&value_length.to_le_bytes());
        self.0.extend_from_slice(key);
        self.0.extend_from_slice(value);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.0.as_slice();
        core::iter::from_fn(move || {
            let (key_length, after) = rest.split_first_chunk::<LENGTH>()?;
            let (value_length, after) = after.split_first_chunk::<LENGTH>()?;
            let key_length = usize::try_from(u32::from_le_bytes(*key_length)).ok()?;
            let value_length = usize::try_from(u32::from_le_bytes(*value_length)).ok()?;
            let (key, after) = after.split_at_checked(key_length)?;
            let (value, after) = after.split_at_checked(value_length)?;
            rest = after;
            Some((key, value))
        })
    }
}

/// What a span describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// A request as it came in.
    Request,
    /// One call of an upstream.
    Call,
}

/// The values of those tags of Envoy that have an attribute in OpenTelemetry.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told<'t> {
    code: Option<u64>,
    flags: u64,
    protocol: &'t [u8],
    peer: &'t [u8],
    request_size: Option<u64>,
    response_size: Option<u64>,
    cluster: &'t [u8],
    upstream: &'t [u8],
    retries: u64,
    grpc_status: Option<u32>,
}

impl<'t> Told<'t> {
    pub(crate) fn read(tags: &'t Tags) -> Self {
        let mut told = Self::default();
        for (key, value) in tags.iter() {
            match key {
                b"http.status_code" => told.code = number(value).filter(|code| *code != 0),
                b"response_flags" => told.flags = flags(value),
                b"http.protocol" => told.protocol = value,
                b"peer.address" => told.peer = value,
                b"request_size" => told.request_size = number(value),
                b"response_size" => told.response_size = number(value),
                b"upstream_cluster.name" => told.cluster = value,
                b"upstream_address" => told.upstream = value,
                b"retry.count" => told.retries = number(value).unwrap_or(0),
                b"grpc.status_code" => {
                    told.grpc_status = number(value).and_then(|status| u32::try_from(status).ok());
                }
                _ => {}
            }
        }
        told
    }

    /// The address of the upstream. The span of a request gets it from the spans of its calls.
    pub(crate) fn upstream(&self) -> &'t [u8] {
        self.upstream
    }

    pub(crate) fn with_upstream(self, upstream: &'t [u8]) -> Self {
        Self { upstream, ..self }
    }

    /// Whether a value can be a reason to keep a request that is not sampled.
    pub(crate) fn is_suspicious(&self) -> bool {
        self.code.is_some_and(|code| code >= 500)
            || self.flags != 0
            || self.grpc_status.is_some_and(|status| status != 0)
    }

    /// Calls `describe` with the values that are known at the end, in the form of the conventions.
    pub(crate) fn end<R>(
        &self,
        about: About,
        is_connect: bool,
        describe: impl FnOnce(&End<'_>) -> R,
    ) -> R {
        let integer = |number: Option<u64>| number.map(u64::to_le_bytes);
        let code = integer(self.code);
        let flags = integer(Some(self.flags));
        let request_size = integer(self.request_size);
        let response_size = integer(self.response_size);
        // A call is an attempt. A request has had an attempt where its tags name a cluster.
        let was_called = about == About::Call || !self.cluster.is_empty();
        let attempts = integer(was_called.then_some(self.retries.saturating_add(1)));
        let text = |text: &'t [u8]| (!text.is_empty()).then_some(text);
        let mut values = EndValues::default();
        // Envoy does not give a tracer the details of the response code.
        for (value, bytes) in [
            (EndValue::Code, bytes(&code)),
            (EndValue::Flags, bytes(&flags)),
            (EndValue::Protocol, text(self.protocol)),
            (EndValue::Source, text(self.peer)),
            (EndValue::RequestSize, bytes(&request_size)),
            (EndValue::ResponseSize, bytes(&response_size)),
            (EndValue::Cluster, text(self.cluster)),
            (EndValue::Upstream, text(self.upstream)),
            (EndValue::Attempts, bytes(&attempts)),
        ] {
            values.set(value, bytes);
        }
        let seen = Seen {
            grpc_status: self.grpc_status,
            // The code of a call is the upstream's. The code of a request is too, where an upstream
            // was called and no response flag is set.
            answered: self.code.is_some()
                && (about == About::Call || was_called && self.flags == 0),
            is_connect,
        };
        describe(&End::new(&values, seen))
    }
}

/// The flags from their form in access logs: short names, separated by commas.
fn flags(text: &[u8]) -> u64 {
    let bit = |name: &[u8]| {
        let mut names = SHORT_NAMES.iter();
        names.position(|known| known.as_bytes() == name)
    };
    let bits = text.split(|byte| *byte == b',').filter_map(bit);
    bits.fold(0, |flags, bit| flags | 1 << bit)
}

fn bytes(number: &Option<[u8; 8]>) -> Option<&[u8]> {
    number.as_ref().map(<[u8; 8]>::as_slice)
}

fn number(digits: &[u8]) -> Option<u64> {
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// Envoy's tags whose value is reported by an attribute of OpenTelemetry, or by the span itself.
const TOLD_OTHERWISE: [&[u8]; 14] = [
    b"http.url",
    b"http.method",
    b"http.protocol",
    b"http.status_code",
    b"user_agent",
    b"peer.address",
    b"request_size",
    b"response_size",
    b"response_flags",
    b"upstream_address",
    b"upstream_cluster.name",
    b"retry.count",
    b"grpc.status_code",
    b"error",
];

/// Adds the tags that no attribute reports: Envoy's own and the user's `custom_tags`. Where a key
/// comes more than once, the last value counts. A key that the span has already is left out: "The
/// keys of attributes … MUST be unique" (OTLP). A tag with an empty value, or with Envoy's `-` for
/// no value, is left out too.
pub(crate) fn add_further(
    tags: &Tags,
    is_taken: impl Fn(&str) -> bool,
    attributes: &mut Attributes,
) {
    for (place, (key, value)) in tags.iter().enumerate() {
        if TOLD_OTHERWISE.contains(&key) || value.is_empty() || value == b"-" {
            continue;
        }
        let Ok(key_text) = core::str::from_utf8(key) else {
            continue;
        };
        let comes_again = || tags.iter().skip(place + 1).any(|(later, _)| later == key);
        if !conventions::KEYS.contains(&key_text) && !is_taken(key_text) && !comes_again() {
            attributes.text(key_text, value);
        }
    }
}

/// Whether a span of that name is a call that the router makes. Other calls, such as those of an
/// authoriser, are not the request's own.
pub(crate) fn is_of_router(operation: &[u8]) -> bool {
    operation.starts_with(b"router ")
}

/// Whether the span of a request is of an outbound listener. Envoy's name for it is "egress" and
/// the host.
pub(crate) fn is_egress(operation: &[u8]) -> bool {
    operation.starts_with(b"egress")
}

/// Whether the request's method is CONNECT.
pub(crate) fn is_connect(headers: &Headers<'_>) -> bool {
    headers.lines(b":method").next() == Some(b"CONNECT")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(list: &[(&str, &str)]) -> Tags {
        let mut tags = Tags::default();
        for (key, value) in list {
            tags.push(key.as_bytes(), value.as_bytes());
        }
        tags
    }

    #[test]
    fn tags_come_back_in_order_and_a_full_list_takes_no_more() {
        let mut tags = tags(&[("a", "1"), ("", ""), ("b", "")]);
        let all: Vec<_> = tags.iter().collect();
        assert_eq!(all, [(&b"a"[..], &b"1"[..]), (b"", b""), (b"b", b"")]);
        tags.push(b"long", &vec![b'x'; MAX_BYTES]);
        assert_eq!(tags.iter().count(), 3);
        tags.clear();
        assert_eq!(tags.iter().count(), 0);
    }

    #[test]
    fn what_is_told_is_read_and_no_status_is_no_code() {
        let tags = tags(&[
            ("http.status_code", "503"),
            ("response_flags", "UF,URX"),
            ("retry.count", "2"),
            ("request_size", "x"),
        ]);
        let told = Told::read(&tags);
        assert_eq!((told.code, told.retries), (Some(503), 2));
        assert_eq!(told.flags, 1 << 5 | 1 << 15);
        assert_eq!(told.request_size, None);
        assert!(told.is_suspicious());
        assert!(told.end(About::Call, false, |end| end.is_server_error()));
    }

    #[test]
    fn an_answer_of_zero_or_none_is_not_suspicious() {
        let tags = tags(&[("http.status_code", "0"), ("response_flags", "-")]);
        let told = Told::read(&tags);
        assert_eq!(told.code, None);
        assert!(!told.is_suspicious());
    }
}
