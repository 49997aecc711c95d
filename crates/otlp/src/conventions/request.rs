//! The data of a span from a request's headers: its name, its method and where it is sent.

use arrayvec::ArrayVec;
use meshtrace_envoy::request_header::ORIGINAL_URL;
use meshtrace_headers::{Headers, path_of, server_and_port, without_user};

use super::grpc::is_grpc;
use crate::attributes::Attributes;
use crate::limits::{MAX_NAME, MAX_URL, MAX_VALUE};
use crate::text::Utf8Text;

/// A request, as its header block describes it.
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
    pub(super) user_agent: &'a [u8],
    pub(super) request_id: &'a [u8],
    original_target: Option<&'a [u8]>,
    original_authority: Option<&'a [u8]>,
    original_url: Option<&'a [u8]>,
    is_grpc: bool,
    is_upgrade: bool,
}

/// A header that describes a request as it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Described {
    /// `:method`.
    Method,
    /// `:path`.
    Target,
    /// `:authority`.
    Authority,
    /// `:scheme`.
    Scheme,
    /// `user-agent`.
    UserAgent,
    /// `x-request-id`.
    RequestId,
    /// `content-type`.
    ContentType,
    /// `upgrade`.
    Upgrade,
}

impl Described {
    /// Every header.
    pub const ALL: [Self; 8] = [
        Self::Method,
        Self::Target,
        Self::Authority,
        Self::Scheme,
        Self::UserAgent,
        Self::RequestId,
        Self::ContentType,
        Self::Upgrade,
    ];

    /// The header's name, lower-case.
    #[must_use]
    pub const fn name(self) -> &'static [u8] {
        match self {
            Self::Method => b":method",
            Self::Target => b":path",
            Self::Authority => b":authority",
            Self::Scheme => b":scheme",
            Self::UserAgent => b"user-agent",
            Self::RequestId => b"x-request-id",
            Self::ContentType => b"content-type",
            Self::Upgrade => b"upgrade",
        }
    }
}

impl<'a> Request<'a> {
    /// Reads every header once.
    #[must_use]
    pub fn scan(headers: &Headers<'a>) -> Self {
        Self::of_lines(headers.iter())
    }

    /// The same as [`scan`](Self::scan), for names in lower case and their values.
    #[must_use]
    pub fn of_lines(lines: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut request = Self::default();
        for (name, value) in lines {
            match name {
                b":method" => request.method = value,
                b":path" => request.target = value,
                b":scheme" => request.scheme = scheme_of(value),
                b":authority" => request.authority = value,
                b"user-agent" => request.user_agent = value,
                b"x-request-id" => request.request_id = value,
                b"content-type" => request.is_grpc = is_grpc(value),
                b"upgrade" => request.is_upgrade = true,
                b"x-envoy-original-path" => request.original_target = Some(value),
                ORIGINAL_URL => request.original_url = Some(value),
                b"x-envoy-original-host" => request.original_authority = Some(value),
                _ => {}
            }
        }
        request
    }

    /// The same as [`scan`](Self::scan) of a request that no route has rewritten, by the value of
    /// each header that describes it.
    #[must_use]
    #[inline]
    pub fn of_values(value_of: impl Fn(Described) -> Option<&'a [u8]>) -> Self {
        let text = |header| value_of(header).unwrap_or_default();
        Self {
            method: text(Described::Method),
            target: text(Described::Target),
            scheme: scheme_of(text(Described::Scheme)),
            authority: text(Described::Authority),
            user_agent: text(Described::UserAgent),
            request_id: text(Described::RequestId),
            is_grpc: is_grpc(text(Described::ContentType)),
            is_upgrade: value_of(Described::Upgrade).is_some(),
            ..Self::default()
        }
    }

    /// Whether the request is gRPC or gRPC-Web.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        self.is_grpc
    }

    /// Whether the request asks for another protocol, as one for a WebSocket does.
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        self.is_upgrade
    }

    /// Whether the request's method is CONNECT, which requests a tunnel.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.method == b"CONNECT"
    }

    /// Whether a route has rewritten the request's path or host. For a request that has just come
    /// in, this was a route of a proxy before this one.
    #[must_use]
    pub fn is_rewritten(&self) -> bool {
        self.original_target.is_some() || self.original_authority.is_some()
    }

    /// Returns the request as it was before a route rewrote it: Envoy keeps the values that it
    /// replaces in `x-envoy-original-path` and `x-envoy-original-host`.
    #[must_use]
    pub fn before_rewrite(self) -> Self {
        Self {
            target: self.original_target.unwrap_or(self.target),
            authority: self.original_authority.unwrap_or(self.authority),
            ..self
        }
    }

    /// Whether the request's duration has no bound: an upgrade, CONNECT, or gRPC, whose headers do
    /// not show whether a call is a stream or unary.
    #[must_use]
    pub fn is_long_lived(&self) -> bool {
        self.is_grpc || self.is_upgrade || self.is_connect()
    }

    /// Returns the request as it was before a response of the upstream redirected it ("internal
    /// redirect"): Envoy keeps the URL in `x-envoy-original-url`. Returns `None` where Envoy did
    /// not.
    #[must_use]
    pub fn before_redirect(self) -> Option<Self> {
        let url = self.original_url?;
        let end = url.iter().position(|byte| *byte == b':')?;
        let (scheme, rest) = url.split_at_checked(end)?;
        let rest = rest.strip_prefix(b"://")?;
        let path = rest.iter().position(|byte| *byte == b'/');
        let (authority, target) = rest.split_at_checked(path.unwrap_or(rest.len()))?;
        Some(Self {
            scheme: scheme_of(scheme),
            authority,
            target,
            ..self
        })
    }

    /// The path without its query.
    #[must_use]
    pub fn path(&self) -> &'a [u8] {
        path_of(self.target)
    }

    /// The method, where it is one of the well-known methods (RFC 9110, section 9, RFC 5789, and
    /// the draft for QUERY).
    fn known_method(&self) -> Option<&'a [u8]> {
        let known: [&[u8]; 10] = [
            b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"CONNECT",
            b"TRACE", b"QUERY",
        ];
        known.contains(&self.method).then_some(self.method)
    }

    /// The RPC method in the form `package.Service/Method`.
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

    /// Adds the attributes from the request's headers that are the same for both kinds of span and
    /// for every target.
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

    /// Adds the attributes of the request's target: a route may rewrite all of it.
    fn describe_target(&self, attributes: &mut Attributes) {
        if !self.target.is_empty() {
            attributes.text_up_to("url.path", self.path(), MAX_URL);
        }
        if !self.scheme.is_empty() {
            attributes.text_up_to("url.scheme", self.scheme, MAX_VALUE);
        }
        let of_scheme = match self.scheme {
            b"http" => Some(80),
            b"https" => Some(443),
            _ => None,
        };
        let (host, port) = server_and_port(without_user(self.authority), of_scheme);
        if !host.is_empty() {
            attributes.text_up_to("server.address", host, MAX_VALUE);
            if let Some(port) = port {
                attributes.int("server.port", port.into());
            }
        }
    }

    /// Adds the attributes that a SERVER span has of the request as it came in, and the template
    /// that its path fits.
    pub fn describe_server(&self, route: Option<&[u8]>, attributes: &mut Attributes) {
        self.describe_target(attributes);
        if let Some(route) = route {
            attributes.text_up_to("http.route", route, MAX_VALUE);
        }
    }

    /// Adds the attributes that a CLIENT span has of the request as it was sent: the target, and
    /// the absolute URL without its query. The `route` is the template that the path fits.
    pub fn describe_client(&self, route: Option<&[u8]>, attributes: &mut Attributes) {
        self.describe_target(attributes);
        if let Some(route) = route {
            attributes.text_up_to("url.template", route, MAX_VALUE);
        }
        if let Some(url) = self.url() {
            attributes.text_up_to("url.full", &url, MAX_URL);
        }
    }

    /// The absolute URL without its query, a user and a password, cut at [`MAX_URL`]. `None` where the request has none.
    pub(super) fn url(&self) -> Option<ArrayVec<u8, MAX_URL>> {
        if self.authority.is_empty() || self.scheme.is_empty() || !self.target.starts_with(b"/") {
            return None;
        }
        let mut url = ArrayVec::new();
        let host = without_user(self.authority);
        for part in [self.scheme, b"://", host, self.path()] {
            let room = url.remaining_capacity().min(part.len());
            let part = part.get(..room).unwrap_or_default();
            // The part fits, by the line above.
            let _ = url.try_extend_from_slice(part);
        }
        Some(url)
    }
}

/// The first of the schemes that are joined in `value`; empty where that is none (RFC 3986, section
/// 3.1). Where Envoy cannot follow a redirect, it puts the scheme back beside the one that is there.
fn scheme_of(value: &[u8]) -> &[u8] {
    let scheme = value.split(|byte| *byte == b',').next();
    let scheme = scheme.unwrap_or_default();
    let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    match scheme {
        [first, rest @ ..] if first.is_ascii_alphabetic() && rest.iter().all(is_scheme) => scheme,
        _ => b"",
    }
}

/// A span's name.
#[derive(Clone, Debug, Default)]
pub struct Name(ArrayVec<u8, MAX_NAME>);

impl Name {
    /// Makes a name of `text`, as UTF-8 and cut at [`MAX_NAME`].
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        let mut name = Self::default();
        name.append(text);
        name
    }

    /// Makes a name of `parts`, one after the other.
    pub(super) fn concat(parts: &[&[u8]]) -> Self {
        let mut name = Self::default();
        for part in parts {
            name.append(part);
        }
        name
    }

    /// Appends `bytes` as UTF-8, cut at [`MAX_NAME`].
    fn append(&mut self, bytes: &[u8]) {
        let text = Utf8Text::new(bytes, self.0.remaining_capacity());
        // The text was cut to the room that is left.
        let _ = self.0.try_extend_from_slice(text.as_bytes());
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
