//! What a tracer gets from Envoy about a request that has ended: the tags that Envoy sets.
//!
//! A tag of Envoy's own with an attribute in OpenTelemetry becomes that attribute. The other tags,
//! also `custom_tags`, are reported unchanged.
//!
//! A custom tag may have the name of a tag of Envoy's own. Their order tells which is which: Envoy's
//! own tags end with `http.status_code`, `response_flags` and, where the code is missing or 5xx,
//! `error`. Then the custom tags come, then the name of the operation, where one is configured. A
//! request whose response has a status of gRPC gets that at the very end.

mod read;

use meshtrace_envoy::response_flag::{
    DELAY_INJECTED, DOWNSTREAM_CONNECTION_TERMINATION, DOWNSTREAM_REMOTE_RESET,
    UPSTREAM_REQUEST_TIMEOUT, UPSTREAM_RETRY_LIMIT_EXCEEDED,
};
use meshtrace_headers::{path_of, without_user};
use meshtrace_otlp::Attributes;
use meshtrace_otlp::conventions::{self, End, Seen, parse_grpc_status};

use self::read::{flags, number};
pub(crate) use self::read::{is_egress, is_of_router, some};
use crate::fate::{Fate, RequestEnd};
use crate::tag_list::{Entry, MAX_VALUE, TagList};

/// The tags of a span. Each is read as it comes, and only what is reported is kept. The memory is
/// used again for other spans.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    numbers: Numbers,
    /// The last value of each [`Text`], as a place in `texts`.
    places: [Place; Text::COUNT],
    texts: Vec<u8>,
    /// The other tags of Envoy's own and of its filters.
    further: TagList,
    /// The `custom_tags`.
    custom: TagList,
    /// Whether the tags of Envoy's own have come.
    is_told: bool,
    /// Whether Envoy has set `error` behind them.
    has_error: bool,
    /// Whether Envoy itself ended the call.
    is_canceled: bool,
    /// The end of `custom`, where the name of the operation came behind it.
    custom_end: Option<usize>,
}

/// The values of Envoy's tags that are numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    code: Option<u64>,
    /// Whether the code came, also where there is none.
    has_code: bool,
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

    fn is_unchanged(self) -> bool {
        self as u8 >= Self::Component as u8
    }
}

/// Those of [`Text::UNCHANGED`] whose names the other attributes of every span have already, in its
/// order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told([bool; Text::UNCHANGED.len()]);

impl Told {
    pub(crate) fn new(is_told: impl Fn(&str) -> bool) -> Self {
        Self(Text::UNCHANGED.map(|(_, key)| is_told(key)))
    }
}

/// The tag with the node's id.
pub(crate) const NODE_ID: &str = "node_id";

/// A range of bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    start: u32,
    length: u32,
}

/// The names of the tag with the status of gRPC, and of the tag with its message.
const GRPC_STATUS: &[u8] = b"grpc.status_code";
const GRPC_MESSAGE: &[u8] = b"grpc.message";
/// Attributes that have a name of Envoy's, and no name of OpenTelemetry's conventions.
const ENVOYS: [&str; 3] = [
    "response_flags",
    "upstream_address",
    "upstream_cluster.name",
];

/// The response flags that may stand beside the upstream's answer.
const BESIDE_AN_ANSWER: u64 = DELAY_INJECTED
    | UPSTREAM_RETRY_LIMIT_EXCEEDED
    | DOWNSTREAM_CONNECTION_TERMINATION
    | DOWNSTREAM_REMOTE_RESET;

/// The most bytes of the texts of one span: more than Envoy's tags take, each of which it sets once
/// or twice.
const MAX_BYTES: usize = 64 * 1024;

impl Tags {
    /// Takes a tag. Where a tag of Envoy's own comes more than once, the last value counts. Returns
    /// whether the tag is Envoy's own with the URL of the request.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> bool {
        if self.is_told {
            self.push_custom(key, value);
            return false;
        }
        let numbers = &mut self.numbers;
        let text = match key {
            b"http.status_code" => {
                numbers.code = number(value).filter(|code| *code != 0);
                numbers.has_code = true;
                return false;
            }
            b"response_flags" => {
                numbers.flags = flags(value);
                self.is_told = numbers.has_code;
                return false;
            }
            b"request_size" => {
                numbers.request_size = number(value);
                return false;
            }
            b"response_size" => {
                numbers.response_size = number(value);
                return false;
            }
            b"retry.count" => {
                numbers.retries = number(value).unwrap_or(0);
                return false;
            }
            GRPC_STATUS => {
                numbers.grpc_status = Some(parse_grpc_status(value));
                return false;
            }
            // The headers of the request have these values, and `error` is the span's status.
            b"http.url" => return true,
            b"http.method" | b"user_agent" | b"error" => return false,
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
            _ => {
                self.push_further(key, value);
                return false;
            }
        };
        let Some(place) = self.places.get_mut(text as usize) else {
            return false;
        };
        if text.is_unchanged() && !is_value(value) {
            *place = Place::default();
            return false;
        }
        let value = value.get(..MAX_VALUE).unwrap_or(value);
        let start = self.texts.len();
        let fits = start + value.len() <= MAX_BYTES;
        if let (true, Ok(start), Ok(length)) =
            (fits, u32::try_from(start), u32::try_from(value.len()))
        {
            self.texts.extend_from_slice(value);
            *place = Place { start, length };
        }
        false
    }

    #[inline(never)]
    fn push_further(&mut self, key: &[u8], value: &[u8]) {
        let mut value = value;
        match key {
            // Envoy has the path with its query, and the host with a password.
            b"grpc.path" => value = path_of(value),
            b"grpc.authority" => value = without_user(value),
            b"canceled" => self.is_canceled = true,
            _ => {}
        }
        self.further.push(key, value);
    }

    #[inline(never)]
    fn push_custom(&mut self, key: &[u8], value: &[u8]) {
        let is_failure = self.numbers.code.is_none_or(|code| code / 100 == 5);
        let may_be_envoys = is_failure && !self.has_error && self.custom.is_empty();
        if may_be_envoys && (key, value) == (b"error", b"true") {
            self.has_error = true;
        } else {
            self.custom.push(key, value);
        }
    }

    /// The name of the operation has come.
    pub(crate) fn name_operation(&mut self) {
        if self.is_told {
            self.custom_end = Some(self.custom.end());
        }
    }

    /// All tags have come. Separates the status of gRPC, which comes last, from the custom tags. Envoy
    /// tells that of every answer that has one. It counts where the request is gRPC.
    pub(crate) fn close(&mut self, is_grpc: impl FnOnce() -> bool) {
        let is_behind = self.is_told && self.custom.iter().any(|tag| tag.key == GRPC_STATUS);
        if !is_behind && self.numbers.grpc_status.is_none() {
            return;
        }
        if !is_grpc() {
            self.numbers.grpc_status = None;
            return;
        }
        if !is_behind {
            return;
        }
        let end = self.custom_end.unwrap_or_else(|| self.grpc_tail());
        for tag in self.custom.from(end) {
            match (tag.key, tag.value) {
                // A value that had no room is too long for a status.
                (GRPC_STATUS, value) => {
                    self.numbers.grpc_status = Some(parse_grpc_status(value.unwrap_or_default()));
                }
                (GRPC_MESSAGE, Some(value)) => self.further.push(GRPC_MESSAGE, value),
                _ => {}
            }
        }
        self.custom.cut(end);
    }

    /// Where the tags `grpc.status_code`, `grpc.message` and `error` begin that Envoy sets behind all
    /// others.
    fn grpc_tail(&self) -> usize {
        let mut start = None;
        for tag in self.custom.iter() {
            match tag.key {
                GRPC_STATUS => start = Some(tag.place),
                GRPC_MESSAGE | b"error" => {}
                _ => start = None,
            }
        }
        start.unwrap_or_else(|| self.custom.end())
    }

    pub(crate) fn clear(&mut self) {
        self.numbers = Numbers::default();
        self.places = Default::default();
        self.texts.clear();
        self.further.clear();
        self.custom.clear();
        self.is_told = false;
        self.has_error = false;
        self.is_canceled = false;
        self.custom_end = None;
    }

    pub(crate) fn capacity(&self) -> usize {
        self.texts.capacity() + self.further.capacity() + self.custom.capacity()
    }

    fn text(&self, text: Text) -> &[u8] {
        let place = self.places.get(text as usize).copied().unwrap_or_default();
        let rest = self.texts.get(place.start as usize..).unwrap_or_default();
        rest.get(..place.length as usize).unwrap_or_default()
    }

    /// The address of the upstream. The span of a request gets it from the spans of its calls.
    pub(crate) fn upstream(&self) -> &[u8] {
        self.text(Text::Upstream)
    }

    /// Whether a value can be a reason to keep a request that is not sampled, whose last call had
    /// this status of gRPC.
    pub(crate) fn is_suspicious(&self, grpc_status: Option<u32>) -> bool {
        let numbers = &self.numbers;
        numbers.code.is_some_and(|code| code >= 500)
            || numbers.flags != 0
            || numbers
                .grpc_status
                .or(grpc_status)
                .is_some_and(|status| status != 0)
    }

    /// The status of gRPC.
    pub(crate) fn grpc_status(&self) -> Option<u32> {
        self.numbers.grpc_status
    }

    /// Whether an answer has begun.
    pub(crate) fn is_answered(&self) -> bool {
        self.numbers.code.is_some()
    }

    /// Whether the answer leads elsewhere, so that Envoy may follow it.
    pub(crate) fn is_redirect(&self) -> bool {
        matches!(self.numbers.code, Some(301 | 302 | 303 | 307 | 308))
    }

    /// Whether Envoy may follow the answer: also where it does not tell the code.
    pub(crate) fn may_be_followed(&self) -> bool {
        !self.numbers.has_code || self.is_redirect()
    }

    /// Whether Envoy itself ended the call.
    pub(crate) fn is_canceled(&self) -> bool {
        self.is_canceled
    }

    /// The end of a request, as far as it tells the end of its calls.
    pub(crate) fn request_end(&self) -> RequestEnd {
        RequestEnd {
            code: self.numbers.code,
            flags: self.numbers.flags,
            grpc_status: self.numbers.grpc_status,
        }
    }

    /// Calls `describe` with the values that are known at the end, in the form of the conventions.
    pub(crate) fn end<R>(
        &self,
        fate: Fate,
        upstream: &[u8],
        is_connect: bool,
        describe: impl FnOnce(&End<'_>) -> R,
    ) -> R {
        let numbers = &self.numbers;
        // A call is an attempt. A request has had an attempt where its tags name a cluster.
        let cluster = self.text(Text::Cluster);
        let is_call = fate.is_of_call();
        let was_called = is_call || !cluster.is_empty();
        let ending = fate.ending(self.is_canceled, numbers.code, numbers.flags);
        let code = numbers.code.or(ending.code);
        let told = conventions::Told {
            code,
            flags: numbers.flags | ending.flags,
            protocol: self.text(Text::Protocol),
            source: self.text(Text::Peer),
            cluster,
            upstream,
            attempts: match was_called {
                true => numbers.retries.saturating_add(1),
                false => 0,
            },
            request_size: numbers.request_size,
            response_size: numbers.response_size,
            // Envoy does not give a tracer the details of the response code.
            details: ending.reason,
        };
        let seen = Seen {
            grpc_status: numbers.grpc_status.or(ending.grpc_status),
            // The code of a call is the upstream's. The code of a request is too, where an upstream
            // was called and no response flag is set that comes with an answer of Envoy's own.
            answered: code.is_some()
                && (is_call || was_called && numbers.flags & !BESIDE_AN_ANSWER == 0),
            is_connect,
            // With hedging a call goes on after its time is over, and may be answered after all.
            excused: match is_call && numbers.code.is_some() {
                true => UPSTREAM_REQUEST_TIMEOUT & !ending.flags,
                false => 0,
            },
            failing: ending.failing,
            beaten: ending.is_beaten,
            unfinished: ending.is_unfinished && numbers.grpc_status.is_none(),
            untold: !numbers.has_code,
        };
        describe(&End::of_told(&told, seen))
    }

    /// Adds the tags that no attribute reports: Envoy's own and the user's `custom_tags`. `parts` are
    /// all other attributes of the span; the first one gets the tags. "The keys of attributes … MUST
    /// be unique" (OTLP):
    ///
    /// - a key that `is_configured`, or is one of the conventions, is left out;
    /// - another custom tag takes the place of what is told of Envoy under that name;
    /// - another tag of Envoy's own is left out where that `is_told` already, or is in `told`.
    ///
    /// A tag with an empty value, or with Envoy's `-` for no value, is left out too.
    pub(crate) fn add_unchanged(
        &self,
        is_configured: impl Fn(&str) -> bool,
        (told, is_told): (Told, impl Fn(&str) -> bool),
        parts: &mut [&mut Attributes],
    ) {
        if let Some(attributes) = parts.first_mut() {
            self.add_texts(told, &is_configured, attributes);
            self.add_further(|key| is_told(key) || is_configured(key), attributes);
        }
        for tag in self.custom.iter() {
            let Some(key) = key_of_value(tag) else {
                continue;
            };
            let is_conventional = conventions::KEYS.contains(&key) && !ENVOYS.contains(&key);
            if is_conventional || is_configured(key) {
                continue;
            }
            for part in &mut *parts {
                part.remove(key);
            }
            if let Some(attributes) = parts.first_mut() {
                add(key, tag.value, attributes);
            }
        }
        if let Some(attributes) = parts.first_mut() {
            attributes.lose(self.further.unnamed() + self.custom.unnamed());
        }
    }

    /// Whether a custom tag has such a key.
    pub(crate) fn has_custom(&self, is_it: impl Fn(&str) -> bool) -> bool {
        self.custom.iter().filter_map(key_of_value).any(is_it)
    }

    fn add_texts(
        &self,
        Told(told): Told,
        is_configured: impl Fn(&str) -> bool,
        attributes: &mut Attributes,
    ) {
        for ((text, key), is_told) in Text::UNCHANGED.into_iter().zip(told) {
            let value = self.text(text);
            if !value.is_empty() && !is_told && !is_configured(key) {
                attributes.text(key, value);
            }
        }
    }

    fn add_further(&self, is_taken: impl Fn(&str) -> bool, attributes: &mut Attributes) {
        for (place, tag) in self.further.iter().enumerate() {
            let comes_again = || {
                let mut later = self.further.iter().skip(place + 1);
                later.any(|later| later.key == tag.key)
            };
            if let Some(key) = key_of_value(tag)
                && !conventions::KEYS.contains(&key)
                && !is_taken(key)
                && !comes_again()
            {
                add(key, tag.value, attributes);
            }
        }
    }
}

fn is_value(value: &[u8]) -> bool {
    !matches!(value, b"" | b"-")
}

/// The key of a tag whose value is one, or had no room.
fn key_of_value(tag: Entry<'_>) -> Option<&str> {
    let key = core::str::from_utf8(tag.key).ok()?;
    tag.value.is_none_or(is_value).then_some(key)
}

fn add(key: &str, value: Option<&[u8]>, attributes: &mut Attributes) {
    match value {
        Some(value) => attributes.text(key, value),
        None => attributes.lose(1),
    }
}

#[cfg(test)]
mod tests;
