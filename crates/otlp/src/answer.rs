//! The answer of a collector.

use core::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use meshtrace_envoy::grpc_status;
use meshtrace_headers::Headers;

use crate::config::Protocol;
use crate::date::since_epoch;
use crate::fields;

/// The answer to an export call, as the host hands it over.
#[derive(Clone, Copy, Debug)]
pub struct HttpCallResponse<'a> {
    /// The header block; empty when there was no answer.
    pub headers: Headers<'a>,
    /// The body.
    pub body: &'a [u8],
    /// The trailers.
    pub trailers: Headers<'a>,
    /// Nanoseconds of a clock that is never set.
    pub now: u64,
    /// Nanoseconds since the Unix epoch: what a date in the answer is compared with.
    pub wall: u64,
}

/// The status of a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallStatus {
    /// The status of HTTP.
    Http(u32),
    /// The status of gRPC.
    Grpc(u32),
    /// There was no answer within the timeout, or the connection broke.
    NoAnswer,
    /// Envoy could not make the call.
    NotMade,
}

/// What an answer means for the spans of the call (OTLP, "OTLP/gRPC Response" and "OTLP/HTTP
/// Response").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExportResult {
    /// The collector accepted them, except `rejected` of them.
    Success { rejected: u32, malformed: bool },
    /// The collector refused them for good.
    NotRetryable,
    /// The collector does not take as much in one call.
    TooLarge,
    /// The call is to be made again, not before the time `after` has passed.
    Retryable { after: Option<Duration> },
}

/// There was no answer: the connection broke, or the timeout passed (OTLP, "All Other Responses").
const NO_ANSWER: ExportResult = ExportResult::Retryable { after: None };

impl HttpCallResponse<'_> {
    pub(crate) fn result(&self, protocol: Protocol) -> ExportResult {
        let status = self.headers.lines(b":status").next().and_then(decimal);
        match (protocol, status) {
            (_, None) => NO_ANSWER,
            (Protocol::HttpProtobuf, Some(status)) => self.over_http(status),
            (Protocol::Grpc, Some(status)) => self.over_grpc(status),
        }
    }

    /// Reads the answer of OTLP/HTTP (OTLP, "OTLP/HTTP Response").
    fn over_http(&self, status: u32) -> ExportResult {
        match status {
            200..=299 => success(Some(self.body)),
            429 | 502 | 503 | 504 => ExportResult::Retryable {
                after: self.retry_after(),
            },
            413 => ExportResult::TooLarge,
            _ => ExportResult::NotRetryable,
        }
    }

    /// Reads the answer of OTLP/gRPC (OTLP, "OTLP/gRPC Response").
    fn over_grpc(&self, status: u32) -> ExportResult {
        let code = self.grpc_status();
        if code.is_none() && status == 413 {
            return ExportResult::TooLarge;
        }
        let code = code.unwrap_or(match status {
            // gRPC, "HTTP to gRPC Status Code Mapping".
            429 | 502 | 503 | 504 => grpc_status::UNAVAILABLE,
            _ => grpc_status::UNKNOWN,
        });
        let after = self
            .trailer(b"grpc-status-details-bin")
            .and_then(retry_info);
        // A server before the collector that answers only in HTTP gives the delay as in HTTP.
        let after = after.or_else(|| self.retry_after());
        match code {
            grpc_status::OK => success(unframed(self.body)),
            grpc_status::CANCELLED
            | grpc_status::DEADLINE_EXCEEDED
            | grpc_status::ABORTED
            | grpc_status::OUT_OF_RANGE
            | grpc_status::UNAVAILABLE
            | grpc_status::DATA_LOSS => ExportResult::Retryable { after },
            grpc_status::RESOURCE_EXHAUSTED if after.is_some() => ExportResult::Retryable { after },
            grpc_status::RESOURCE_EXHAUSTED if self.says_too_large() => ExportResult::TooLarge,
            _ => ExportResult::NotRetryable,
        }
    }

    fn trailer(&self, name: &[u8]) -> Option<&[u8]> {
        let in_trailers = self.trailers.lines(name).next();
        // A response that has only trailers has them as its headers.
        in_trailers.or_else(|| self.headers.lines(name).next())
    }

    /// The status of gRPC; `None` where the answer has none.
    fn grpc_status(&self) -> Option<u32> {
        let status = self.trailer(b"grpc-status").map(decimal)?;
        Some(status.unwrap_or(grpc_status::UNKNOWN))
    }

    /// Whether a server of gRPC refuses the size of the message. It has no status of its own for
    /// that: the implementations in Go and in C++ have these words.
    fn says_too_large(&self) -> bool {
        let words: [&[u8]; 2] = [b"larger than max", b"larger%20than%20max"];
        let message = self.trailer(b"grpc-message").unwrap_or_default();
        let has = |words: &[u8]| message.windows(words.len()).any(|part| part == words);
        words.into_iter().any(has)
    }

    /// The status, as the log says it.
    pub(crate) fn status(&self, protocol: Protocol) -> CallStatus {
        let http = self.headers.lines(b":status").next().and_then(decimal);
        let grpc = match protocol {
            Protocol::Grpc => self.grpc_status().filter(|code| *code != grpc_status::OK),
            Protocol::HttpProtobuf => None,
        };
        match (grpc, http) {
            (Some(code), _) => CallStatus::Grpc(code),
            (None, Some(status)) => CallStatus::Http(status),
            (None, None) => CallStatus::NoAnswer,
        }
    }

    /// Reads `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3). A date that has passed
    /// is a delay of zero.
    fn retry_after(&self) -> Option<Duration> {
        let value = self.headers.lines(b"retry-after").next()?.trim_ascii();
        if let Some(seconds) = decimal(value) {
            return Some(Duration::from_secs(seconds.into()));
        }
        let until = since_epoch(value)?;
        // The date is compared with `Date`, which is of the same clock. The proxy's clock may
        // differ.
        let made = self.headers.lines(b"date").next().and_then(since_epoch);
        Some(until.saturating_sub(made.unwrap_or(Duration::from_nanos(self.wall))))
    }
}

/// Reads `ExportTraceServiceResponse` of `opentelemetry.proto.collector.trace.v1`: in it, as field
/// 1, `ExportTracePartialSuccess`, whose field 1 is the number of rejected spans.
fn success(body: Option<&[u8]>) -> ExportResult {
    let mut rejected = 0;
    let read = body.and_then(|body| {
        fields::read(body, &mut |field, partial| match field {
            1 => fields::read(partial.bytes()?, &mut |field, value| {
                if field == 1 {
                    rejected = value.number()?;
                }
                Some(())
            }),
            _ => Some(()),
        })
    });
    // Of a malformed answer nothing counts.
    let rejected = read.map_or(0, |()| rejected.max(0));
    ExportResult::Success {
        rejected: u32::try_from(rejected).unwrap_or(u32::MAX),
        malformed: read.is_none(),
    }
}

/// The one message of a unary call; `None` when it is compressed or cut.
fn unframed(body: &[u8]) -> Option<&[u8]> {
    let ([0, length @ ..], message) = body.split_first_chunk::<5>()? else {
        return None;
    };
    message.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// Reads `google.rpc.Status`: its field 3 are details, each a `google.protobuf.Any` with a type (1)
/// and a value (2). That of `google.rpc.RetryInfo` has a `google.protobuf.Duration` (1), of seconds
/// (1) and nanoseconds (2).
fn retry_info(details: &[u8]) -> Option<Duration> {
    let details = details.trim_ascii_end();
    let unpadded = details.split(|byte| *byte == b'=').next()?;
    let status = STANDARD_NO_PAD.decode(unpadded).ok()?;
    let mut info = None;
    fields::read(&status, &mut |field, detail| {
        if field != 3 {
            return Some(());
        }
        let (mut kind, mut value) = (&b""[..], &b""[..]);
        fields::read(detail.bytes()?, &mut |field, part| {
            match field {
                1 => kind = part.bytes()?,
                2 => value = part.bytes()?,
                _ => {}
            }
            Some(())
        })?;
        if kind.ends_with(b"/google.rpc.RetryInfo") {
            info = info.or(Some(value));
        }
        Some(())
    })?;
    // Without a delay, or with a negative one, `RetryInfo` still means that the call may be
    // repeated.
    let (mut seconds, mut nanos) = (0, 0);
    fields::read(info?, &mut |field, delay| match field {
        1 => fields::read(delay.bytes()?, &mut |field, part| {
            match field {
                1 => seconds = part.number()?,
                2 => nanos = part.number()?,
                _ => {}
            }
            Some(())
        }),
        _ => Some(()),
    })?;
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let nanos = u64::try_from(nanos).unwrap_or(0);
    Some(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos)))
}

/// Reads a decimal number without a sign. A number that is too large for 32 bits becomes the
/// largest one.
fn decimal(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u32, |number, digit| {
        digit.is_ascii_digit().then(|| {
            number
                .saturating_mul(10)
                .saturating_add(u32::from(digit - b'0'))
        })
    })
}
