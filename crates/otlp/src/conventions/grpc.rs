//! gRPC: which requests are its, and what its status codes mean for a span.

/// `application/grpc`, and those of gRPC-Web, with any suffix or parameter.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
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

/// gRPC's code UNKNOWN.
pub const GRPC_UNKNOWN: u64 = 2;

/// The value of `grpc-status`: decimal digits.
#[must_use]
pub fn grpc_status(value: &[u8]) -> Option<u32> {
    core::str::from_utf8(value).ok()?.parse().ok()
}

/// "UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS" are errors of a
/// SERVER span (Semantic conventions for gRPC).
pub(crate) fn is_grpc_server_error(status: u32) -> bool {
    matches!(status, 2 | 4 | 12 | 13 | 14 | 15)
}

/// The names of gRPC's codes ("Status codes and their use in gRPC").
pub(crate) fn grpc_code(status: u32) -> &'static [u8] {
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
