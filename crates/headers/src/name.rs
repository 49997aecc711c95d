//! Names of headers in a configuration: those that a filter may read, write or remove.

use core::fmt;

use crate::is_token;

/// Headers by which HTTP ends a message, chooses a connection or routes a request. No filter writes
/// or removes one: otherwise the next hop would read another message than was sent.
///
/// RFC 9110: `connection` 7.6.1, `content-encoding` 8.4 (without it, or with another, nobody can
/// decode the body; `grpc-encoding` is that of gRPC's messages), `content-length` 8.6,
/// `content-range` 14.4 (without it a part of a resource replaces the whole), `content-type` 8.3 (it
/// says that a request is gRPC, and Envoy's routes match on that), `expect` 10.1.1, `host` 7.2, `te` 10.1.4, `trailer`
/// 6.6.2, `upgrade` 7.8. RFC 9112: `transfer-encoding` 6.1. RFC 9113, section 8.2.2: `keep-alive`
/// and `proxy-connection`. RFC 7540, section 3.2.1: `http2-settings`.
pub const FRAMING: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "expect",
    "grpc-encoding",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers of a response that define what it is, who may read or keep it, or what its reader does
/// next. With a trace id in one of them, it would be another response. A name that ends in a dash
/// stands for all names that begin with it.
///
/// Content and its parts: RFC 9110, sections 8 and 14. Caches: RFC 9111, section 5. Redirects,
/// retries, authentication: RFC 9110, sections 10.2 and 11. Cookies: RFC 6265. Browsers' rules:
/// Fetch (`access-control-`, `cross-origin-`, `x-content-type-options`), RFC 6797, RFC 7034, CSP.
/// `alt-svc`: RFC 7838. gRPC ends a call by `grpc-status`. Envoy acts on `x-envoy-` itself and
/// writes `server`.
pub const OF_RESPONSES: &[&str] = &[
    "accept-",
    "access-control-",
    "age",
    "allow",
    "alt-svc",
    "authentication-info",
    "cache-control",
    "clear-site-data",
    "content-",
    "cross-origin-",
    "date",
    "etag",
    "expires",
    "grpc-",
    "last-modified",
    "link",
    "location",
    "permissions-policy",
    "pragma",
    "proxy-",
    "referrer-policy",
    "refresh",
    "retry-after",
    "sec-",
    "server",
    "set-cookie",
    "set-cookie2",
    "strict-transport-security",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-content-type-options",
    "x-envoy-",
    "x-frame-options",
    "x-xss-protection",
];

/// Why a filter may not read, write or remove a header of some name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRefusal {
    /// It is no name of a header (RFC 9110, section 5.6.2), or it is the name of a pseudo-header.
    NotAToken,
    /// It is `host`, which Envoy hands over as `:authority`.
    Host,
    /// It is one of [`FRAMING`].
    Framing,
    /// It is one of [`OF_RESPONSES`].
    OfResponses,
}

impl fmt::Display for NameRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAToken => "expected the name of a header",
            Self::Host => "expected the name of a header other than `host`",
            Self::Framing => {
                "expected the name of a header that does not frame or route the message (RFC 9110)"
            }
            Self::OfResponses => {
                "expected the name of a header that does not change what the response means, such \
                 as \"x-trace-id\""
            }
        })
    }
}

/// The lower-case name of a header that a filter writes or removes.
///
/// # Errors
/// When a filter may not write or remove it.
pub fn written_name(name: &str) -> Result<Box<[u8]>, NameRefusal> {
    check_name(name).map(|()| lower(name))
}

/// The lower-case name of a response's header that a filter writes.
///
/// # Errors
/// When a filter may not write it.
pub fn written_response_name(name: &str) -> Result<Box<[u8]>, NameRefusal> {
    check_response_name(name).map(|()| lower(name))
}

/// The lower-case name of a header that a filter reads.
///
/// # Errors
/// When no request has a header of that name.
pub fn read_name(name: &str) -> Result<Box<[u8]>, NameRefusal> {
    match name {
        _ if !is_token(name.as_bytes()) => Err(NameRefusal::NotAToken),
        _ if name.eq_ignore_ascii_case("host") => Err(NameRefusal::Host),
        _ => Ok(lower(name)),
    }
}

/// The lower-case name of a header, or of a pseudo-header (RFC 9113, section 8.3), that a filter
/// reads.
///
/// # Errors
/// When it is the name of neither.
pub fn read_name_or_pseudo(name: &str) -> Result<Box<[u8]>, NameRefusal> {
    let token = name.strip_prefix(':').unwrap_or(name);
    match is_token(token.as_bytes()) {
        true => Ok(lower(name)),
        false => Err(NameRefusal::NotAToken),
    }
}

fn lower(name: &str) -> Box<[u8]> {
    name.to_ascii_lowercase().into_bytes().into()
}

fn check_name(name: &str) -> Result<(), NameRefusal> {
    if !is_token(name.as_bytes()) {
        return Err(NameRefusal::NotAToken);
    }
    match FRAMING.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        true => Err(NameRefusal::Framing),
        false => Ok(()),
    }
}

fn check_response_name(name: &str) -> Result<(), NameRefusal> {
    check_name(name)?;
    let lower = name.to_ascii_lowercase();
    let is_of = |known: &&str| match known.ends_with('-') {
        true => lower.starts_with(known),
        false => lower == *known,
    };
    match OF_RESPONSES.iter().any(is_of) {
        true => Err(NameRefusal::OfResponses),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn what_frames_a_message_and_what_is_no_name_is_refused() {
        for name in FRAMING {
            assert_eq!(check_name(name), Err(NameRefusal::Framing));
            let upper = name.to_ascii_uppercase();
            assert_eq!(check_name(&upper), Err(NameRefusal::Framing));
        }
        for name in ["", ":path", ":authority", "a b", "a:", "a\r\nb", "é", "a,b"] {
            assert_eq!(check_name(name), Err(NameRefusal::NotAToken), "{name:?}");
        }
        for name in [
            "x-trace-id",
            "baggage",
            "authorization",
            "X_Y",
            "tea",
            "hosts",
        ] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_name_is_returned_in_lower_case() {
        let name: Box<[u8]> = (*b"x-trace-id").into();
        assert_eq!(written_name("X-Trace-Id"), Ok(name.clone()));
        assert_eq!(written_response_name("X-Trace-Id"), Ok(name.clone()));
        assert_eq!(read_name("X-Trace-Id"), Ok(name.clone()));
        assert_eq!(read_name_or_pseudo("X-Trace-Id"), Ok(name));
    }

    #[test]
    fn a_filter_may_read_what_it_may_not_write() {
        assert!(read_name("content-type").is_ok());
        assert_eq!(read_name("Host"), Err(NameRefusal::Host));
        assert_eq!(read_name(":path"), Err(NameRefusal::NotAToken));
        assert_eq!(read_name_or_pseudo(":Path"), Ok((*b":path").into()));
        assert_eq!(read_name_or_pseudo("::path"), Err(NameRefusal::NotAToken));
        assert_eq!(read_name_or_pseudo(":"), Err(NameRefusal::NotAToken));
    }

    #[test]
    fn what_says_what_a_response_is_is_refused() {
        for name in OF_RESPONSES {
            let whole = format!("{name}x");
            let name = if name.ends_with('-') { &whole } else { *name };
            let upper = name.to_ascii_uppercase();
            for name in [name, &upper] {
                assert_eq!(check_response_name(name), Err(NameRefusal::OfResponses));
                assert_eq!(check_name(name), Ok(()), "a request's");
            }
        }
        let framing = check_response_name("Content-Length");
        assert_eq!(framing, Err(NameRefusal::Framing));
        for name in ["x-trace-id", "traceresponse", "server-timing", "x-cache"] {
            assert_eq!(check_response_name(name), Ok(()), "{name}");
        }
    }
}
