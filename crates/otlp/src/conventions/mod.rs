//! OpenTelemetry's semantic conventions for HTTP and RPC spans, as far as a proxy knows their
//! values ("Semantic Conventions for HTTP Spans", 1.23 and later; for gRPC the release candidate of
//! 1.39).
//!
//! Names that the conventions do not have are Envoy's own of its tracers: `upstream_cluster.name`,
//! `upstream_address`, `response_flags`.

use arrayvec::ArrayVec;
use meshtrace_headers::Headers;

use crate::{Attributes, Kind, Status};

/// The longest `url.path` and `url.full`, in bytes.
pub(crate) const MAX_URL: usize = 1024;
/// The longest of the other values, in bytes.
pub(crate) const MAX_VALUE: usize = 256;
/// The longest span name, in bytes.
pub const MAX_NAME: usize = 128;

/// Every attribute that a span of this project may have by itself. "The keys of attributes … MUST be
/// unique" (OTLP, `Span.attributes`).
pub const KEYS: [&str; 27] = [
    "client.address",
    "error.type",
    "http.request.body.size",
    "http.request.header.x-request-id",
    "http.request.method",
    "http.request.method_original",
    "http.request.resend_count",
    "http.response.body.size",
    "http.response.status_code",
    "http.route",
    KEPT,
    "network.peer.address",
    "network.peer.port",
    "network.protocol.version",
    "response_flags",
    "rpc.method",
    "rpc.response.status_code",
    "rpc.system.name",
    "server.address",
    "server.port",
    "upstream_address",
    "upstream_cluster.name",
    "url.full",
    "url.path",
    "url.scheme",
    "url.template",
    "user_agent.original",
];
/// Why a span is reported although its trace is not sampled.
pub const KEPT: &str = "meshtrace.kept";

/// What the header block of a request says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// `:method`.
    pub method: &'a [u8],
    /// `:path` with its query.
    pub target: &'a [u8],
    /// `:scheme`.
    pub scheme: &'a [u8],
    /// `:authority`.
    pub authority: &'a [u8],
    user_agent: &'a [u8],
    request_id: &'a [u8],
    original_target: Option<&'a [u8]>,
    original_authority: Option<&'a [u8]>,
    original_url: Option<&'a [u8]>,
    is_grpc: bool,
    is_upgrade: bool,
}

impl<'a> Request<'a> {
    /// Looks at every header once.
    #[must_use]
    pub fn scan(headers: &Headers<'a>) -> Self {
        let mut request = Self::default();
        for (name, value) in headers {
            match name {
                b":method" => request.method = value,
                b":path" => request.target = value,
                b":scheme" => request.scheme = value,
                b":authority" => request.authority = value,
                b"user-agent" => request.user_agent = value,
                b"x-request-id" => request.request_id = value,
                b"content-type" => request.is_grpc = is_grpc(value),
                b"upgrade" => request.is_upgrade = true,
                b"x-envoy-original-path" => request.original_target = Some(value),
                b"x-envoy-original-url" => request.original_url = Some(value),
                b"x-envoy-original-host" => request.original_authority = Some(value),
                _ => {}
            }
        }
        request
    }

    /// Whether it is gRPC or gRPC-Web.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        self.is_grpc
    }

    /// Whether it asks for a tunnel by its method.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.method == b"CONNECT"
    }

    /// Whether a route has rewritten its path or its host: of a request that has just come in, a
    /// route of a proxy before this one.
    #[must_use]
    pub fn is_rewritten(&self) -> bool {
        self.original_target.is_some() || self.original_authority.is_some()
    }

    /// The request as it was before a route rewrote it: Envoy keeps what it replaces in
    /// `x-envoy-original-path` and `x-envoy-original-host`.
    #[must_use]
    pub fn before_rewrite(self) -> Self {
        Self {
            target: self.original_target.unwrap_or(self.target),
            authority: self.original_authority.unwrap_or(self.authority),
            ..self
        }
    }

    /// Whether it may last for as long as its ends like: an upgrade, CONNECT, or gRPC, whose
    /// streams cannot be told from its calls by their headers.
    #[must_use]
    pub fn is_long_lived(&self) -> bool {
        self.is_grpc || self.is_upgrade || self.is_connect()
    }

    /// The request as it was before a response of the upstream led it elsewhere ("internal redirect"):
    /// Envoy keeps the URL in `x-envoy-original-url`. `None` where it did not.
    #[must_use]
    pub fn before_redirect(self) -> Option<Self> {
        let url = self.original_url?;
        let end = url.windows(3).position(|bytes| bytes == b"://")?;
        let (scheme, rest) = url.split_at_checked(end)?;
        let rest = rest.get(3..)?;
        let path = rest.iter().position(|byte| *byte == b'/');
        let (authority, target) = rest.split_at_checked(path.unwrap_or(rest.len()))?;
        Some(Self {
            scheme,
            authority,
            target,
            ..self
        })
    }

    /// The path without its query.
    #[must_use]
    pub fn path(&self) -> &'a [u8] {
        let end = self.target.iter().position(|byte| *byte == b'?');
        let path = end.and_then(|end| self.target.get(..end));
        path.unwrap_or(self.target)
    }

    /// The method, where it is one of those that everybody knows (RFC 9110, section 9, RFC 5789,
    /// and the draft for QUERY).
    fn known_method(&self) -> Option<&'a [u8]> {
        let known: [&[u8]; 10] = [
            b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"CONNECT",
            b"TRACE", b"QUERY",
        ];
        known.contains(&self.method).then_some(self.method)
    }

    /// `package.Service/Method`.
    fn rpc_method(&self) -> Option<&'a [u8]> {
        let path = self.path();
        let method = path.strip_prefix(b"/")?;
        (self.is_grpc && method.contains(&b'/')).then_some(method)
    }

    /// The span's name: `{rpc.method}`, or `{method} {route}`, and without a route the method alone
    /// ("Name").
    #[must_use]
    pub fn name(&self, route: Option<&[u8]>) -> Name {
        let mut name = Name::default();
        if let Some(method) = self.rpc_method() {
            name.append(method);
            return name;
        }
        name.append(self.known_method().unwrap_or(b"HTTP"));
        if let Some(route) = route {
            name.append(b" ");
            name.append(route);
        }
        name
    }

    /// Adds what the request's headers tell, for either kind of span and wherever it is sent.
    pub fn describe(&self, attributes: &mut Attributes) {
        match self.known_method() {
            Some(method) => attributes.text("http.request.method", method),
            None => {
                attributes.text("http.request.method", b"_OTHER");
                if !self.method.is_empty() {
                    attributes.text_up_to("http.request.method_original", self.method, MAX_VALUE);
                }
            }
        }
        if !self.user_agent.is_empty() {
            attributes.text_up_to("user_agent.original", self.user_agent, MAX_VALUE);
        }
        if !self.request_id.is_empty() {
            let key = "http.request.header.x-request-id";
            attributes.text_list(key, self.request_id, MAX_VALUE);
        }
        if let Some(method) = self.rpc_method() {
            attributes.text("rpc.system.name", b"grpc");
            attributes.text_up_to("rpc.method", method, MAX_VALUE);
        }
    }

    /// Adds where it is sent to: a route may rewrite all of it.
    fn describe_target(&self, attributes: &mut Attributes) {
        if !self.target.is_empty() {
            attributes.text_up_to("url.path", self.path(), MAX_URL);
        }
        if !self.scheme.is_empty() {
            attributes.text_up_to("url.scheme", self.scheme, MAX_VALUE);
        }
        let (host, port) = host_and_port(self.authority);
        if !host.is_empty() {
            attributes.text_up_to("server.address", host, MAX_VALUE);
            let port = port.or(match self.scheme {
                b"http" => Some(80),
                b"https" => Some(443),
                _ => None,
            });
            if let Some(port) = port {
                attributes.int("server.port", port.into());
            }
        }
    }

    /// Adds what a SERVER span says of the request as it came in, and the template that its path
    /// fits.
    pub fn describe_server(&self, route: Option<&[u8]>, attributes: &mut Attributes) {
        self.describe_target(attributes);
        if let Some(route) = route {
            attributes.text_up_to("http.route", route, MAX_VALUE);
        }
    }

    /// Adds what a CLIENT span says of the request as it was sent: where to, and the absolute URL
    /// without its query. The `route` is the template that the path fits.
    pub fn describe_client(&self, route: Option<&[u8]>, attributes: &mut Attributes) {
        self.describe_target(attributes);
        if let Some(route) = route {
            attributes.text_up_to("url.template", route, MAX_VALUE);
        }
        if self.authority.is_empty() || self.scheme.is_empty() || !self.target.starts_with(b"/") {
            return;
        }
        let mut url = ArrayVec::<u8, MAX_URL>::new();
        for part in [self.scheme, b"://", self.authority, self.path()] {
            let room = url.remaining_capacity().min(part.len());
            let part = part.get(..room).unwrap_or_default();
            // It fits, by the line above.
            let _ = url.try_extend_from_slice(part);
        }
        attributes.text_up_to("url.full", &url, MAX_URL);
    }
}

/// A span's name.
#[derive(Clone, Debug, Default)]
pub struct Name(ArrayVec<u8, MAX_NAME>);

impl Name {
    /// UTF-8, cut at [`MAX_NAME`].
    fn append(&mut self, bytes: &[u8]) {
        let text = crate::text::Text::new(bytes, self.0.remaining_capacity());
        // It was cut to the room.
        let _ = self.0.try_extend_from_slice(text.as_bytes());
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// `application/grpc`, and those of gRPC-Web, with any suffix or parameter.
fn is_grpc(content_type: &[u8]) -> bool {
    let grpc = content_type.strip_prefix(b"application/grpc");
    matches!(grpc, Some([] | [b'+' | b';', ..])) || is_grpc_web(content_type)
}

/// `application/grpc-web` or `application/grpc-web-text`, with any suffix or parameter.
#[must_use]
pub fn is_grpc_web(content_type: &[u8]) -> bool {
    let kind = content_type.strip_prefix(b"application/grpc-web");
    let kind = kind.map(|kind| kind.strip_prefix(b"-text").unwrap_or(kind));
    matches!(kind, Some([] | [b'+' | b';', ..]))
}

/// A host without brackets, and its port (RFC 3986, section 3.2.2).
fn host_and_port(authority: &[u8]) -> (&[u8], Option<u16>) {
    let colon = authority.iter().rposition(|byte| *byte == b':');
    let (host, port) = match colon.and_then(|colon| authority.split_at_checked(colon)) {
        Some((host, [b':', port @ ..])) => (host, number(port)),
        _ => (authority, None),
    };
    match (host, port) {
        ([b'[', host @ .., b']'], Some(port)) => (host, Some(port)),
        (host, Some(port)) if !host.contains(&b':') => (host, Some(port)),
        _ => match authority {
            [b'[', host @ .., b']'] => (host, None),
            _ => (authority, None),
        },
    }
}

fn number(digits: &[u8]) -> Option<u16> {
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// What the host is asked for at a request's end, as paths of Envoy's attributes; in one list
/// expression where that works.
pub const END_VALUES: [&str; 11] = [
    "response.code",
    "response.flags",
    "request.protocol",
    "source.address",
    "request.size",
    "response.size",
    "xds.cluster_name",
    "upstream.address",
    "upstream.request_attempt_count",
    "response.code_details",
    "xds.listener_direction",
];

/// How many of [`END_VALUES`], from the last, a SERVER span at any listener needs not.
pub const CLIENT_END_VALUES: usize = 3;

/// The attribute that says who made a response.
pub const CODE_DETAILS: &str = "response.code_details";
/// What it says of one that came from the upstream.
pub const VIA_UPSTREAM: &[u8] = b"via_upstream";

/// How many of [`END_VALUES`], from the first, an answer of Envoy's own has too.
pub const LOCAL_END_VALUES: usize = 6;

/// What a request and its response have shown before the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// gRPC's status, where it is gRPC and the status is known.
    pub grpc_status: Option<u32>,
    /// The headers of the response came from the upstream.
    pub answered: bool,
    /// The request's method is CONNECT.
    pub is_connect: bool,
}

/// What is known when a request is over: the values of [`END_VALUES`], and what was seen before.
#[derive(Clone, Copy, Debug, Default)]
pub struct End<'a> {
    /// `response.code`; none when no response was begun.
    pub code: Option<u16>,
    /// `response.flags`.
    pub flags: u64,
    seen: Seen,
    details: &'a [u8],
    protocol: &'a [u8],
    source: &'a [u8],
    cluster: &'a [u8],
    upstream: &'a [u8],
    attempts: u64,
    request_size: Option<i64>,
    response_size: Option<i64>,
    is_outbound: bool,
}

/// `envoy.config.core.v3.TrafficDirection.OUTBOUND`.
const OUTBOUND: u64 = 2;

impl<'a> End<'a> {
    /// Reads the values of [`END_VALUES`], in their order.
    #[must_use]
    pub fn new(values: &[Option<&'a [u8]>; END_VALUES.len()], seen: Seen) -> Self {
        let [
            code,
            flags,
            protocol,
            source,
            request_size,
            response_size,
            cluster,
            upstream,
            attempts,
            details,
            direction,
        ] = *values;
        let integer = |value: Option<&[u8]>| value.and_then(integer);
        let size = |value| integer(value).and_then(|size| i64::try_from(size).ok());
        Self {
            code: integer(code)
                .and_then(|code| u16::try_from(code).ok())
                .filter(|code| *code != 0),
            flags: integer(flags).unwrap_or(0),
            seen,
            details: details.unwrap_or_default(),
            protocol: protocol.unwrap_or_default(),
            source: source.unwrap_or_default(),
            cluster: cluster.unwrap_or_default(),
            upstream: upstream.unwrap_or_default(),
            attempts: integer(attempts).unwrap_or(0),
            request_size: size(request_size),
            response_size: size(response_size),
            is_outbound: integer(direction) == Some(OUTBOUND),
        }
    }

    /// Whether the listener is outbound.
    #[must_use]
    pub fn is_outbound(&self) -> bool {
        self.is_outbound
    }

    /// Whether the request was sent on to an upstream.
    #[must_use]
    pub fn has_upstream(&self) -> bool {
        self.calls() > 0
    }

    /// How often it was sent: Envoy counts the attempts that found no endpoint, or no room among the
    /// connections and requests that the cluster allows. No attempt follows one of these.
    fn calls(&self) -> u64 {
        let last_was_none = self.flags & flag::NO_ENDPOINT != 0 || self.details == OVERFLOW;
        self.attempts.saturating_sub(last_was_none.into())
    }

    /// Whether the upstream has begun an answer. Of one that was cut, and of one that sent the
    /// request elsewhere ("internal redirect"), the code's details are other ones by now.
    fn is_answered(&self) -> bool {
        let by_details = [VIA_UPSTREAM, INTERNAL_REDIRECT, CUT];
        self.seen.answered || by_details.iter().any(|text| self.details.starts_with(text))
    }

    /// Whether the request has become something else at the end: its headers are the next one's.
    #[must_use]
    pub fn is_redirected(&self) -> bool {
        self.details == INTERNAL_REDIRECT
    }

    /// Whether it was a tunnel (RFC 9110, sections 7.8 and 9.3.6), which ends by being closed at
    /// either end.
    fn is_tunnel(&self) -> bool {
        match self.code {
            Some(101) => true,
            Some(code) => self.seen.is_connect && (200..300).contains(&code),
            None => false,
        }
    }

    /// Whether the client went away before the end.
    #[must_use]
    pub fn client_went_away(&self) -> bool {
        self.flags & flag::CLIENT_WENT_AWAY != 0
    }

    /// Whether it failed for a reason on the server's side.
    #[must_use]
    pub fn is_server_error(&self) -> bool {
        if self.client_went_away() || self.is_tunnel() {
            return false;
        }
        self.code.is_some_and(|code| code >= 500)
            || self.seen.grpc_status.is_some_and(is_grpc_server_error)
            || self.flags & flag::UPSTREAM_FAILED != 0
    }

    /// Adds what is known at the end for a span of this `kind`, and says its status ("Status").
    pub fn describe(&self, kind: Kind, attributes: &mut Attributes) -> Status {
        // A CLIENT span has the code that the upstream sent: what Envoy answers in its place goes to the
        // client alone.
        let code = self
            .code
            .filter(|_| kind == Kind::Server || self.is_answered());
        if let Some(code) = code {
            attributes.int("http.response.status_code", code.into());
        }
        if let Some(status) = self.seen.grpc_status {
            attributes.text("rpc.response.status_code", grpc_code(status));
        }
        match kind {
            Kind::Server => self.describe_server(attributes),
            Kind::Client => self.describe_upstream(attributes),
        }
        if !self.cluster.is_empty() {
            attributes.text_up_to("upstream_cluster.name", self.cluster, MAX_VALUE);
        }
        let flags = flag::names(self.flags);
        if !flags.is_empty() {
            attributes.text("response_flags", &flags);
        }
        let Some(error) = self.error(kind, code) else {
            return Status::Unset;
        };
        match error {
            ErrorType::Code(code) => {
                attributes.text("error.type", itoa::Buffer::new().format(code).as_bytes());
            }
            ErrorType::Text(text) => attributes.text("error.type", text),
            ErrorType::Flags => attributes.text("error.type", &flags),
        }
        Status::Error
    }

    fn describe_server(&self, attributes: &mut Attributes) {
        let (client, _) = host_and_port(self.source);
        if !client.is_empty() {
            attributes.text_up_to("client.address", client, MAX_VALUE);
        }
        if let Some(version) = self.protocol.strip_prefix(b"HTTP/") {
            // Envoy says HTTP/2 and HTTP/3, and HTTP/1.0 and HTTP/1.1.
            attributes.text_up_to("network.protocol.version", version, MAX_VALUE);
        }
        if !self.upstream.is_empty() {
            attributes.text_up_to("upstream_address", self.upstream, MAX_VALUE);
        }
        if let Some(size) = self.request_size {
            attributes.int("http.request.body.size", size);
        }
        if let Some(size) = self.response_size {
            attributes.int("http.response.body.size", size);
        }
    }

    fn describe_upstream(&self, attributes: &mut Attributes) {
        let (peer, port) = host_and_port(self.upstream);
        if !peer.is_empty() {
            attributes.text_up_to("network.peer.address", peer, MAX_VALUE);
            if let Some(port) = port {
                attributes.int("network.peer.port", port.into());
            }
        }
        if let Some(resends) = self.calls().checked_sub(1).filter(|resends| *resends > 0) {
            let resends = i64::try_from(resends).unwrap_or(i64::MAX);
            attributes.int("http.request.resend_count", resends);
        }
    }

    /// "If the request fails with an error before response status code was sent or received,
    /// `error.type` SHOULD be set to … a component-specific low cardinality error identifier. If
    /// response status code was sent or received and status indicates an error …, `error.type` SHOULD
    /// be set to the status code". A SERVER span whose client went away has none: "If the operation has
    /// completed successfully, instrumentations SHOULD NOT set `error.type`", and its status is unset.
    fn error(&self, kind: Kind, code: Option<u16>) -> Option<ErrorType<'a>> {
        let least = match kind {
            Kind::Server => 500,
            Kind::Client => 400,
        };
        let is_grpc_error = |status: &u32| match kind {
            Kind::Server => is_grpc_server_error(*status),
            Kind::Client => *status != 0,
        };
        match (code, self.seen.grpc_status) {
            (Some(code), _) if code >= least => return Some(ErrorType::Code(code)),
            (_, Some(status)) if is_grpc_error(&status) => {
                return Some(ErrorType::Text(grpc_code(status)));
            }
            _ => {}
        }
        let went_away = self.client_went_away();
        match kind {
            _ if self.is_tunnel() => None,
            Kind::Server if went_away => None,
            _ if self.flags & flag::UPSTREAM_FAILED != 0 => Some(ErrorType::Flags),
            // The upstream was answering until then.
            Kind::Client if went_away => code.is_none().then_some(ErrorType::Flags),
            Kind::Server => code.is_none().then_some(ErrorType::Text(OTHER)),
            // The upstream said nothing: Envoy's own answer tells whether that is an error.
            Kind::Client if code.is_none() && self.code.is_none_or(|code| code >= least) => {
                Some(ErrorType::Text(self.details_type()))
            }
            Kind::Client => None,
        }
    }

    /// The code's details without what is particular to one request.
    fn details_type(&self) -> &'a [u8] {
        let mut parts = self.details.split(|byte| *byte == b'{');
        match parts.next() {
            None | Some([]) => OTHER,
            Some(details) => details,
        }
    }
}

/// "A fallback error value to be used when the instrumentation doesn't define a custom value".
const OTHER: &[u8] = b"_OTHER";

/// What [`CODE_DETAILS`] says of a response that led the request elsewhere.
const INTERNAL_REDIRECT: &[u8] = b"internal_redirect";
/// How it begins where the upstream ended in the midst of its response.
const CUT: &[u8] = b"upstream_reset_after_response_started";
/// What it says of an attempt that a circuit breaker stopped.
const OVERFLOW: &[u8] = b"upstream_reset_before_response_started{overflow}";

enum ErrorType<'a> {
    Code(u16),
    Text(&'a [u8]),
    Flags,
}

/// An integer of the host's: eight little-endian bytes.
#[must_use]
pub fn integer(value: &[u8]) -> Option<u64> {
    value.first_chunk::<8>().copied().map(u64::from_le_bytes)
}

/// gRPC's code UNKNOWN.
pub const GRPC_UNKNOWN: u64 = 2;

/// The value of `grpc-status`: decimal digits.
#[must_use]
pub fn grpc_status(value: &[u8]) -> Option<u32> {
    core::str::from_utf8(value).ok()?.parse().ok()
}

/// "UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS" are errors of a
/// SERVER span (Semantic conventions for gRPC).
fn is_grpc_server_error(status: u32) -> bool {
    matches!(status, 2 | 4 | 12 | 13 | 14 | 15)
}

/// The names of gRPC's codes ("Status codes and their use in gRPC").
fn grpc_code(status: u32) -> &'static [u8] {
    match status {
        0 => b"OK",
        1 => b"CANCELLED",
        3 => b"INVALID_ARGUMENT",
        4 => b"DEADLINE_EXCEEDED",
        5 => b"NOT_FOUND",
        6 => b"ALREADY_EXISTS",
        7 => b"PERMISSION_DENIED",
        8 => b"RESOURCE_EXHAUSTED",
        9 => b"FAILED_PRECONDITION",
        10 => b"ABORTED",
        11 => b"OUT_OF_RANGE",
        12 => b"UNIMPLEMENTED",
        13 => b"INTERNAL",
        14 => b"UNAVAILABLE",
        15 => b"DATA_LOSS",
        16 => b"UNAUTHENTICATED",
        _ => b"UNKNOWN",
    }
}

/// Envoy's response flags: `envoy.data.accesslog.v3.ResponseFlags`, whose order is that of the bits
/// of the attribute `response.flags`.
mod flag {
    use arrayvec::ArrayVec;

    /// The short names that access logs have, by bit.
    pub(super) const NAMES: [&[u8]; 30] = [
        b"LH", b"UH", b"UT", b"LR", b"UR", b"UF", b"UC", b"UO", b"NR", b"DI", b"FI", b"RL",
        b"UAEX", b"RLSE", b"DC", b"URX", b"SI", b"IH", b"DPE", b"UMSDR", b"RFCF", b"NFCF", b"DT",
        b"UPE", b"NC", b"OM", b"DF", b"DO", b"DR", b"UDO",
    ];

    const fn bit(name: &[u8]) -> u64 {
        let mut i = 0;
        let mut rest: &[&[u8]] = &NAMES;
        while let [first, others @ ..] = rest {
            if is_same(first, name) {
                return 1 << i;
            }
            rest = others;
            i += 1;
        }
        0
    }

    const fn is_same(mut one: &[u8], mut other: &[u8]) -> bool {
        while let ([a, one_rest @ ..], [b, other_rest @ ..]) = (one, other) {
            if *a != *b {
                return false;
            }
            (one, other) = (one_rest, other_rest);
        }
        one.is_empty() && other.is_empty()
    }

    /// The order in which they come about, by bit: access logs write them in the order in which they
    /// were set, which the number does not tell. Filters in front of the router set some, then the
    /// router before it sends, then the retries, then the last attempt's end, then the client's.
    const ORDER: [usize; 30] = [
        17, 18, 9, 10, 11, 12, 13, 20, 21, 25, 26, 8, 24, 0, 15, 7, 1, 2, 3, 4, 5, 6, 19, 23, 16,
        22, 27, 29, 14, 28,
    ];

    /// The client closed the connection or reset the stream.
    pub(super) const CLIENT_WENT_AWAY: u64 = bit(b"DC") | bit(b"DR");
    /// The upstream gave no answer, or not all of it.
    pub(super) const UPSTREAM_FAILED: u64 = bit(b"UH")
        | bit(b"UT")
        | bit(b"UR")
        | bit(b"UF")
        | bit(b"UC")
        | bit(b"UO")
        | bit(b"UMSDR")
        | bit(b"UPE")
        | bit(b"DF");

    const _: () = assert!(CLIENT_WENT_AWAY == 0x1000_4000 && UPSTREAM_FAILED == 0x0488_00f6);

    /// No endpoint was there to send the request to.
    pub(super) const NO_ENDPOINT: u64 = bit(b"UH");

    /// The names, separated by commas, as access logs write them.
    pub(super) fn names(flags: u64) -> ArrayVec<u8, 128> {
        let mut names = ArrayVec::new();
        let set = ORDER.iter().filter(|bit| flags & (1 << **bit) != 0);
        for name in set.filter_map(|bit| NAMES.get(*bit)) {
            let comma: &[u8] = if names.is_empty() { b"" } else { b"," };
            // All of them take fewer than 128 bytes.
            let _ = names.try_extend_from_slice(comma);
            let _ = names.try_extend_from_slice(name);
        }
        names
    }
}
