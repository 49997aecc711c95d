//! What a tracer gets from Envoy about a request that has ended: the tags that Envoy sets.
//!
//! A tag with an attribute in OpenTelemetry becomes that attribute. The other tags, also
//! `custom_tags`, are reported unchanged.

use meshtrace_envoy::response_flag::SHORT_NAMES;
use meshtrace_otlp::Attributes;
use meshtrace_otlp::conventions::{self, End, EndValue, EndValues, Seen};

/// The tags of a span. Each is read as it comes, and only what is reported is kept. The memory is
/// used again for other spans.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    numbers: Numbers,
    /// The last value of each [`Text`], as a place in `texts`.
    places: [Place; Text::COUNT],
    texts: Vec<u8>,
    /// The tags that have no name of Envoy's own, in the order in which they were set.
    further: Vec<u8>,
}

/// The values of Envoy's tags that are numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    code: Option<u64>,
    flags: u64,
    request_size: Option<u64>,
    response_size: Option<u64>,
    retries: u64,
    grpc_status: Option<u32>,
}

/// Envoy's tags that are texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Text {
    Protocol,
    Peer,
    Cluster,
    Upstream,
    Component,
    NodeId,
    Zone,
    RequestId,
    DownstreamCluster,
    UpstreamCluster,
}

impl Text {
    const COUNT: usize = 10;
    /// The texts that no attribute of OpenTelemetry reports, and their names.
    const UNCHANGED: [(Self, &str); 6] = [
        (Self::Component, "component"),
        (Self::NodeId, NODE_ID),
        (Self::Zone, "zone"),
        (Self::RequestId, "guid:x-request-id"),
        (Self::DownstreamCluster, "downstream_cluster"),
        (Self::UpstreamCluster, "upstream_cluster"),
    ];
}

/// The tag with the node's id.
pub(crate) const NODE_ID: &str = "node_id";

/// A range of bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    start: u32,
    length: u32,
}

/// The most bytes of the texts of one span, and of its further tags.
const MAX_BYTES: usize = 64 * 1024;
const LENGTH: usize = 4;

impl Tags {
    /// Takes a tag. Where a tag comes more than once, the last value counts. A tag that has no room
    /// is left out.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) {
        let numbers = &mut self.numbers;
        let text = match key {
            b"http.status_code" => {
                numbers.code = number(value).filter(|code| *code != 0);
                return;
            }
            b"response_flags" => {
                numbers.flags = flags(value);
                return;
            }
            b"request_size" => {
                numbers.request_size = number(value);
                return;
            }
            b"response_size" => {
                numbers.response_size = number(value);
                return;
            }
            b"retry.count" => {
                numbers.retries = number(value).unwrap_or(0);
                return;
            }
            b"grpc.status_code" => {
                numbers.grpc_status = number(value).and_then(|status| u32::try_from(status).ok());
                return;
            }
            // The headers of the request have these values, and `error` is the span's status.
            b"http.url" | b"http.method" | b"user_agent" | b"error" => return,
            b"http.protocol" => Text::Protocol,
            b"peer.address" => Text::Peer,
            b"upstream_cluster.name" => Text::Cluster,
            b"upstream_address" => Text::Upstream,
            b"component" => Text::Component,
            b"node_id" => Text::NodeId,
            b"zone" => Text::Zone,
            b"guid:x-request-id" => Text::RequestId,
            b"downstream_cluster" => Text::DownstreamCluster,
            b"upstream_cluster" => Text::UpstreamCluster,
            _ => return self.push_further(key, value),
        };
        let start = self.texts.len();
        let fits = start + value.len() <= MAX_BYTES;
        let place = u32::try_from(start)
            .ok()
            .zip(u32::try_from(value.len()).ok());
        if let Some((start, length)) = place.filter(|_| fits)
            && let Some(place) = self.places.get_mut(text as usize)
        {
            self.texts.extend_from_slice(value);
            *place = Place { start, length };
        }
    }

    #[inline(never)]
    fn push_further(&mut self, key: &[u8], value: &[u8]) {
        let (Ok(key_length), Ok(value_length)) =
            (u32::try_from(key.len()), u32::try_from(value.len()))
        else {
            return;
        };
        let further = &mut self.further;
        if further.len() + key.len() + value.len() + 2 * LENGTH > MAX_BYTES {
            return;
        }
        further.extend_from_slice(&key_length.to_le_bytes());
        further.extend_from_slice(&value_length.to_le_bytes());
        further.extend_from_slice(key);
        further.extend_from_slice(value);
    }

    pub(crate) fn clear(&mut self) {
        self.numbers = Numbers::default();
        self.places = Default::default();
        self.texts.clear();
        self.further.clear();
    }

    pub(crate) fn capacity(&self) -> usize {
        self.texts.capacity() + self.further.capacity()
    }

    fn text(&self, text: Text) -> &[u8] {
        let place = self.places.get(text as usize).copied().unwrap_or_default();
        let rest = self.texts.get(place.start as usize..).unwrap_or_default();
        rest.get(..place.length as usize).unwrap_or_default()
    }

    fn further(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.further.as_slice();
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

    /// The address of the upstream. The span of a request gets it from the spans of its calls.
    pub(crate) fn upstream(&self) -> &[u8] {
        self.text(Text::Upstream)
    }

    /// Whether a value can be a reason to keep a request that is not sampled.
    pub(crate) fn is_suspicious(&self) -> bool {
        let numbers = &self.numbers;
        numbers.code.is_some_and(|code| code >= 500)
            || numbers.flags != 0
            || numbers.grpc_status.is_some_and(|status| status != 0)
    }

    /// Calls `describe` with the values that are known at the end, in the form of the conventions.
    pub(crate) fn end<R>(
        &self,
        about: About,
        upstream: &[u8],
        is_connect: bool,
        describe: impl FnOnce(&End<'_>) -> R,
    ) -> R {
        let numbers = &self.numbers;
        let integer = |number: Option<u64>| number.map(u64::to_le_bytes);
        let code = integer(numbers.code);
        let flags = integer(Some(numbers.flags));
        let request_size = integer(numbers.request_size);
        let response_size = integer(numbers.response_size);
        // A call is an attempt. A request has had an attempt where its tags name a cluster.
        let cluster = self.text(Text::Cluster);
        let was_called = about == About::Call || !cluster.is_empty();
        let attempts = integer(was_called.then_some(numbers.retries.saturating_add(1)));
        let mut values = EndValues::default();
        // Envoy does not give a tracer the details of the response code.
        for (value, bytes) in [
            (EndValue::Code, bytes(&code)),
            (EndValue::Flags, bytes(&flags)),
            (EndValue::Protocol, some(self.text(Text::Protocol))),
            (EndValue::Source, some(self.text(Text::Peer))),
            (EndValue::RequestSize, bytes(&request_size)),
            (EndValue::ResponseSize, bytes(&response_size)),
            (EndValue::Cluster, some(cluster)),
            (EndValue::Upstream, some(upstream)),
            (EndValue::Attempts, bytes(&attempts)),
        ] {
            values.set(value, bytes);
        }
        let seen = Seen {
            grpc_status: numbers.grpc_status,
            // The code of a call is the upstream's. The code of a request is too, where an upstream
            // was called and no response flag is set.
            answered: numbers.code.is_some()
                && (about == About::Call || was_called && numbers.flags == 0),
            is_connect,
        };
        describe(&End::new(&values, seen))
    }

    /// Adds the tags that no attribute reports: Envoy's own and the user's `custom_tags`. A key
    /// that the span has already is left out: "The keys of attributes … MUST be unique" (OTLP). A
    /// tag with an empty value, or with Envoy's `-` for no value, is left out too.
    pub(crate) fn add_unchanged(
        &self,
        is_taken: impl Fn(&str) -> bool,
        attributes: &mut Attributes,
    ) {
        let is_value = |value: &[u8]| !matches!(value, b"" | b"-");
        for (text, key) in Text::UNCHANGED {
            let value = self.text(text);
            if is_value(value) && !is_taken(key) {
                attributes.text(key, value);
            }
        }
        for (place, (key, value)) in self.further().enumerate() {
            let Some(key_text) = core::str::from_utf8(key).ok().filter(|_| is_value(value)) else {
                continue;
            };
            let comes_again = || {
                self.further()
                    .skip(place + 1)
                    .any(|(later, _)| later == key)
            };
            if !conventions::KEYS.contains(&key_text) && !is_taken(key_text) && !comes_again() {
                attributes.text(key_text, value);
            }
        }
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

/// The text, where it is not empty.
pub(crate) fn some(text: &[u8]) -> Option<&[u8]> {
    (!text.is_empty()).then_some(text)
}

/// The flags from their form in access logs: short names, separated by commas.
fn flags(text: &[u8]) -> u64 {
    if text == b"-" {
        return 0;
    }
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

/// The number that decimal digits write.
fn number(digits: &[u8]) -> Option<u64> {
    match digits {
        // Most are a size of zero or a status.
        [digit @ b'0'..=b'9'] => Some(u64::from(digit - b'0')),
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            let [a, b, c] = [a, b, c].map(|digit| u64::from(digit - b'0'));
            Some(a * 100 + b * 10 + c)
        }
        _ => core::str::from_utf8(digits).ok()?.parse().ok(),
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
    fn further_tags_come_back_in_order_and_a_full_list_takes_no_more() {
        let mut tags = tags(&[("a", "1"), ("", ""), ("b", "")]);
        let all: Vec<_> = tags.further().collect();
        assert_eq!(all, [(&b"a"[..], &b"1"[..]), (b"", b""), (b"b", b"")]);
        tags.push(b"long", &vec![b'x'; MAX_BYTES]);
        assert_eq!(tags.further().count(), 3);
        tags.push(b"zone", &vec![b'x'; MAX_BYTES + 1]);
        assert_eq!(tags.text(Text::Zone), b"");
        tags.clear();
        assert_eq!(tags.further().count(), 0);
    }

    #[test]
    fn what_is_told_is_read_and_no_status_is_no_code() {
        let tags = tags(&[
            ("http.status_code", "503"),
            ("response_flags", "UF,URX"),
            ("retry.count", "2"),
            ("request_size", "x"),
        ]);
        let told = &tags.numbers;
        assert_eq!((told.code, told.retries), (Some(503), 2));
        assert_eq!(told.flags, 1 << 5 | 1 << 15);
        assert_eq!(told.request_size, None);
        assert!(tags.is_suspicious());
        assert!(tags.end(About::Call, b"", false, |end| end.is_server_error()));
    }

    #[test]
    fn an_answer_of_zero_or_none_is_not_suspicious() {
        let tags = tags(&[("http.status_code", "0"), ("response_flags", "-")]);
        assert_eq!(tags.numbers.code, None);
        assert!(!tags.is_suspicious());
    }

    #[test]
    fn the_last_value_of_a_tag_counts() {
        let tags = tags(&[
            ("component", "first"),
            ("peer.address", "10.0.0.1"),
            ("mine", "1"),
            ("component", "proxy"),
            ("peer.address", "10.0.0.2"),
            ("mine", "2"),
        ]);
        assert_eq!(tags.text(Text::Component), b"proxy");
        assert_eq!(tags.text(Text::Peer), b"10.0.0.2");
        let added = |tags: &Tags| {
            let mut attributes = Attributes::new();
            tags.add_unchanged(|_| false, &mut attributes);
            attributes
        };
        let expected = self::tags(&[("component", "proxy"), ("mine", "2")]);
        let [added, expected] = [&tags, &expected].map(added);
        assert_eq!(format!("{added:?}"), format!("{expected:?}"));
    }
}
