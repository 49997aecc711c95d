//! The data of a span about a request's end: the status code, what failed, and who answered.

use meshtrace_envoy::response_code_details::{
    INTERNAL_REDIRECT, OVERFLOW, VIA_UPSTREAM, WEBSOCKET_HANDSHAKE_UNSUCCESSFUL,
};
use meshtrace_envoy::{response_flag, traffic_direction};
use meshtrace_headers::host_and_port;

use super::end_value::{EndValue, EndValues};
use super::grpc::{grpc_code, is_grpc_server_error};
use super::response_flags;
use super::value::integer;
use crate::attributes::Attributes;
use crate::limits::MAX_VALUE;
use crate::span::{Kind, Status};

/// The data of a request and its response that was recorded before the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// The status of gRPC, where the request is gRPC and the status is known.
    pub grpc_status: Option<u32>,
    /// Whether the headers of the response came from the upstream.
    pub answered: bool,
    /// Whether the request's method is CONNECT.
    pub is_connect: bool,
    /// Response flags that are set and are no failure of this span.
    pub excused: u64,
    /// Further response flags that are a failure of this span.
    pub failing: u64,
    /// Whether the proxy itself ended the call because it has another answer, so that no answer to
    /// this call is no error.
    pub beaten: bool,
    /// Whether the proxy itself ended the call before the answer told how it ended.
    pub unfinished: bool,
    /// Whether nothing is told of the end, so that no code is no error.
    pub untold: bool,
}

/// What a tracer is told of a request that is over. A text that it is not told is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told<'a> {
    /// `response.code`.
    pub code: Option<u64>,
    /// `response.flags`.
    pub flags: u64,
    /// The HTTP version.
    pub protocol: &'a [u8],
    /// The address of the peer that sent the request.
    pub source: &'a [u8],
    /// The upstream cluster.
    pub cluster: &'a [u8],
    /// The address of the upstream.
    pub upstream: &'a [u8],
    /// How many upstreams were tried.
    pub attempts: u64,
    /// The size of the request's body, in bytes.
    pub request_size: Option<u64>,
    /// The size of the response's body, in bytes.
    pub response_size: Option<u64>,
    /// What ended a call without an answer, where no flag tells it.
    pub details: &'a [u8],
}

/// The data of a request that is over: its [`EndValues`], and what was recorded before.
#[derive(Clone, Copy, Debug, Default)]
pub struct End<'a> {
    /// `response.code`; `None` when no final response was begun.
    pub code: Option<u16>,
    /// `response.flags`.
    pub flags: u64,
    seen: Seen,
    details: &'a [u8],
    pub(super) protocol: &'a [u8],
    pub(super) source: &'a [u8],
    pub(super) cluster: &'a [u8],
    pub(super) upstream: &'a [u8],
    attempts: u64,
    pub(super) request_size: Option<i64>,
    pub(super) response_size: Option<i64>,
    is_outbound: bool,
}

impl<'a> End<'a> {
    /// Reads the `values` of a request that is over.
    #[must_use]
    pub fn new(values: &EndValues<'a>, seen: Seen) -> Self {
        let text = |value| values.get(value).unwrap_or_default();
        let integer = |value| values.get(value).and_then(integer);
        let size = |value| integer(value).and_then(|size| i64::try_from(size).ok());
        Self {
            code: integer(EndValue::Code).and_then(status_of),
            flags: integer(EndValue::Flags).unwrap_or(0),
            seen,
            details: text(EndValue::CodeDetails),
            protocol: text(EndValue::Protocol),
            source: text(EndValue::Source),
            cluster: text(EndValue::Cluster),
            upstream: text(EndValue::Upstream),
            attempts: integer(EndValue::Attempts).unwrap_or(0),
            request_size: size(EndValue::RequestSize),
            response_size: size(EndValue::ResponseSize),
            is_outbound: integer(EndValue::Direction) == Some(traffic_direction::OUTBOUND),
        }
    }

    /// The same as [`new`](Self::new), of the values that a tracer is told.
    #[must_use]
    #[inline]
    pub fn of_told(told: &Told<'a>, seen: Seen) -> Self {
        let size = |size: Option<u64>| size.and_then(|size| i64::try_from(size).ok());
        Self {
            code: told.code.and_then(status_of),
            flags: told.flags,
            seen,
            details: told.details,
            protocol: told.protocol,
            source: told.source,
            cluster: told.cluster,
            upstream: told.upstream,
            attempts: told.attempts,
            request_size: size(told.request_size),
            response_size: size(told.response_size),
            ..Self::default()
        }
    }

    /// The same with the status of gRPC.
    #[must_use]
    pub fn with_grpc_status(mut self, status: Option<u32>) -> Self {
        self.seen.grpc_status = status;
        self
    }

    /// Whether the listener is outbound.
    #[must_use]
    pub fn is_outbound(&self) -> bool {
        self.is_outbound
    }

    /// Whether Envoy follows the answer ("internal redirect"): the request's headers may be those of the
    /// next request.
    #[must_use]
    pub fn leads_elsewhere(&self) -> bool {
        self.details == INTERNAL_REDIRECT
    }

    /// Whether the request was sent on to an upstream.
    #[must_use]
    pub fn has_upstream(&self) -> bool {
        self.calls() > 0
    }

    /// How often the request was sent. Envoy's count includes an attempt that found no endpoint, or
    /// no room among the connections and requests that the cluster allows. No attempt follows such
    /// an attempt.
    fn calls(&self) -> u64 {
        let last_was_none =
            self.flags & response_flag::NO_HEALTHY_UPSTREAM != 0 || self.details == OVERFLOW;
        self.attempts.saturating_sub(last_was_none.into())
    }

    /// Whether the code is the upstream's. The details show it where no filter sees the answer, as
    /// where the upstream sent the request elsewhere ("internal redirect"). They do not show it
    /// where the answer was cut: it may have been an informational one alone, or one that a filter
    /// held. Then the code is that of Envoy's own answer.
    fn is_answered(&self) -> bool {
        let by_details = [
            VIA_UPSTREAM,
            INTERNAL_REDIRECT,
            WEBSOCKET_HANDSHAKE_UNSUCCESSFUL,
        ];
        self.seen.answered || by_details.contains(&self.details)
    }

    /// Whether the request was a tunnel (RFC 9110, sections 7.8 and 9.3.6). A tunnel ends when
    /// either end closes it.
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
        self.flags & response_flags::CLIENT_WENT_AWAY != 0
    }

    /// Whether the request failed for a reason on the server's side.
    #[must_use]
    pub fn is_server_error(&self) -> bool {
        if self.client_went_away() || self.is_tunnel() {
            return false;
        }
        self.code.is_some_and(|code| code >= 500)
            || self.seen.grpc_status.is_some_and(is_grpc_server_error)
            || self.upstream_failed()
    }

    fn upstream_failed(&self) -> bool {
        let failing = response_flags::UPSTREAM_FAILED | self.seen.failing;
        self.flags & !self.seen.excused & failing != 0
    }

    /// Adds the attributes that are known at the end for a span of this `kind`, and returns its
    /// status ("Status").
    pub fn describe(&self, kind: Kind, attributes: &mut Attributes) -> Status {
        // A CLIENT span has the code and the status that the upstream sent. An answer of Envoy in
        // their place is sent only to the client. A status without a code is that of a call of
        // Envoy's own.
        let is_told = kind == Kind::Server || self.is_answered();
        let code = self.code.filter(|_| is_told);
        let grpc_status = self.seen.grpc_status;
        let grpc_status = grpc_status.filter(|_| is_told || self.code.is_none());
        if let Some(code) = code {
            attributes.int("http.response.status_code", code.into());
        }
        if let Some(status) = grpc_status {
            attributes.text("rpc.response.status_code", grpc_code(status));
        }
        match kind {
            Kind::Server => self.describe_server(attributes),
            Kind::Client => self.describe_upstream(attributes),
        }
        if !self.cluster.is_empty() {
            attributes.text_up_to("upstream_cluster.name", self.cluster, MAX_VALUE);
        }
        let flags = response_flags::names(self.flags);
        if !flags.is_empty() {
            attributes.text("response_flags", &flags);
        }
        let Some(error) = self.error(kind, code, grpc_status) else {
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
            // Envoy's values are HTTP/2 and HTTP/3, and HTTP/1.0 and HTTP/1.1.
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
    /// response status code was sent or received and status indicates an error …, `error.type`
    /// SHOULD be set to the status code". A SERVER span whose client went away has none: "If the
    /// operation has completed successfully, instrumentations SHOULD NOT set `error.type`", and its
    /// status is unset.
    fn error(
        &self,
        kind: Kind,
        code: Option<u16>,
        grpc_status: Option<u32>,
    ) -> Option<ErrorType<'a>> {
        let least = match kind {
            Kind::Server => 500,
            Kind::Client => 400,
        };
        let is_grpc_error = |status: &u32| match kind {
            Kind::Server => is_grpc_server_error(*status),
            Kind::Client => *status != 0,
        };
        match (code, grpc_status) {
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
            _ if self.upstream_failed() => Some(ErrorType::Flags),
            // A call of Envoy's own over gRPC, such as an authoriser's: its tags have no code.
            _ if code.is_none() && grpc_status.is_some() => None,
            // Such as a health check that Envoy 1.40 answers.
            _ if self.seen.untold => None,
            Kind::Client if self.seen.unfinished && !went_away => {
                Some(ErrorType::Text(self.details_type()))
            }
            // The upstream was sending its answer until then.
            Kind::Client if went_away => code.is_none().then_some(ErrorType::Flags),
            Kind::Server => code.is_none().then_some(ErrorType::Text(OTHER)),
            // The upstream sent no answer: Envoy's own answer shows whether that is an error. An
            // answer to gRPC shows it by its status.
            Kind::Client if code.is_none() && self.seen.beaten => None,
            Kind::Client
                if code.is_none()
                    && (self.code.is_none_or(|code| code >= least)
                        || self.seen.grpc_status.is_some_and(|status| status != 0)) =>
            {
                Some(ErrorType::Text(self.details_type()))
            }
            Kind::Client => None,
        }
    }

    /// The code's details, without the part that is particular to one request.
    fn details_type(&self) -> &'a [u8] {
        let mut parts = self.details.split(|byte| *byte == b'{');
        match parts.next() {
            // The answer that came has no status: its code is below 100.
            None | Some([] | VIA_UPSTREAM) => OTHER,
            Some(details) => details,
        }
    }
}

/// The status code of a response; `None` where none came. Envoy keeps the code of an informational
/// response that it passed on, such as 100, until another one comes. It is no status of the response
/// (RFC 9110, section 15.2). Only 101 ends a response.
fn status_of(code: u64) -> Option<u16> {
    let code = u16::try_from(code).ok()?;
    (code == 101 || code >= 200).then_some(code)
}

/// "A fallback error value to be used when the instrumentation doesn't define a custom value".
const OTHER: &[u8] = b"_OTHER";

enum ErrorType<'a> {
    Code(u16),
    Text(&'a [u8]),
    Flags,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Envoy keeps the code of an informational response, and a client may go away after it.
    #[test]
    fn an_informational_code_is_no_status() {
        for (code, expected) in [
            (0, None),
            (100, None),
            (103, None),
            (199, None),
            (101, Some(101)),
            (200, Some(200)),
            (599, Some(599)),
            (70_000, None),
        ] {
            let told = Told {
                code: Some(code),
                ..Told::default()
            };
            assert_eq!(End::of_told(&told, Seen::default()).code, expected);
            let mut values = EndValues::default();
            let bytes = code.to_le_bytes();
            values.set(EndValue::Code, Some(&bytes));
            assert_eq!(End::new(&values, Seen::default()).code, expected);
        }
    }

    #[test]
    fn a_further_flag_is_a_failure_of_the_span_that_names_it() {
        let told = Told {
            code: Some(200),
            flags: response_flag::STREAM_IDLE_TIMEOUT,
            ..Told::default()
        };
        for failing in [0, response_flag::STREAM_IDLE_TIMEOUT] {
            let seen = Seen {
                answered: true,
                failing,
                ..Seen::default()
            };
            let status = End::of_told(&told, seen).describe(Kind::Client, &mut Attributes::new());
            assert_eq!(status == Status::Error, failing != 0);
        }
    }

    /// An answer of gRPC without its status. A client that goes away may have had enough of it.
    #[test]
    fn an_answer_that_the_proxy_cut_is_an_error_where_its_end_is_its_status() {
        for (unfinished, flags, expected) in [
            (true, 0, Status::Error),
            (false, 0, Status::Unset),
            (true, response_flag::DOWNSTREAM_REMOTE_RESET, Status::Unset),
        ] {
            let told = Told {
                code: Some(200),
                flags,
                details: b"canceled",
                ..Told::default()
            };
            let seen = Seen {
                answered: true,
                unfinished,
                ..Seen::default()
            };
            let status = End::of_told(&told, seen).describe(Kind::Client, &mut Attributes::new());
            assert_eq!(status, expected, "{unfinished} {flags}");
        }
    }

    #[test]
    fn no_code_is_no_error_where_nothing_is_told_of_the_end() {
        for kind in [Kind::Server, Kind::Client] {
            for untold in [false, true] {
                let seen = Seen {
                    untold,
                    ..Seen::default()
                };
                let (mut found, mut expected) = (Attributes::new(), Attributes::new());
                let status = End::of_told(&Told::default(), seen).describe(kind, &mut found);
                assert_eq!(status == Status::Error, !untold);
                if !untold {
                    expected.text("error.type", b"_OTHER");
                }
                assert_eq!(format!("{found:?}"), format!("{expected:?}"));
            }
        }
    }

    /// The upstream's answer came whole, and its code is none.
    #[test]
    fn a_code_below_100_has_no_error_of_its_own() {
        let told = Told {
            code: Some(99),
            details: VIA_UPSTREAM,
            ..Told::default()
        };
        let seen = Seen {
            answered: true,
            ..Seen::default()
        };
        let (mut found, mut expected) = (Attributes::new(), Attributes::new());
        let status = End::of_told(&told, seen).describe(Kind::Client, &mut found);
        expected.text("error.type", b"_OTHER");
        assert!(status == Status::Error);
        assert_eq!(format!("{found:?}"), format!("{expected:?}"));
    }

    #[test]
    fn what_ended_a_call_without_an_answer_is_its_error() {
        let told = Told {
            details: b"timeout",
            ..Told::default()
        };
        for beaten in [false, true] {
            let seen = Seen {
                beaten,
                ..Seen::default()
            };
            let (mut found, mut expected) = (Attributes::new(), Attributes::new());
            let status = End::of_told(&told, seen).describe(Kind::Client, &mut found);
            assert_eq!(status == Status::Error, !beaten);
            if !beaten {
                expected.text("error.type", b"timeout");
            }
            assert_eq!(format!("{found:?}"), format!("{expected:?}"));
        }
    }
}
