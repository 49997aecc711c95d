//! gRPC: which requests are gRPC, and what its status codes mean for a span.

use meshtrace_envoy::grpc_status;

/// Whether the type is `application/grpc` or one of gRPC-Web, with any suffix or parameter.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    let grpc = content_type.strip_prefix(b"application/grpc");
    matches!(grpc, Some([] | [b'+' | b';', ..])) || is_grpc_web(content_type)
}

/// Whether the type is `application/grpc-web` or `application/grpc-web-text`, with any suffix or
/// parameter.
#[must_use]
pub fn is_grpc_web(content_type: &[u8]) -> bool {
    let kind = content_type.strip_prefix(b"application/grpc-web");
    let kind = kind.map(|kind| kind.strip_prefix(b"-text").unwrap_or(kind));
    matches!(kind, Some([] | [b'+' | b';', ..]))
}

/// Reads the value of `grpc-status`: decimal digits. A status that cannot be read is UNKNOWN, and so
/// is an empty one.
#[must_use]
pub fn parse_grpc_status(value: &[u8]) -> u32 {
    let status = core::str::from_utf8(value).ok();
    let status = status.and_then(|digits| digits.parse().ok());
    status.unwrap_or(grpc_status::UNKNOWN)
}

/// The lowest number that is no code of gRPC.
const FIRST_UNASSIGNED: u32 = 17;
const _: () = assert!(grpc_status::NAMES.len() == 17);

/// "UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS" are errors of a
/// SERVER span (Semantic conventions for gRPC). A code that gRPC does not have is UNKNOWN.
pub(crate) fn is_grpc_server_error(status: u32) -> bool {
    matches!(
        status,
        grpc_status::UNKNOWN
            | grpc_status::DEADLINE_EXCEEDED
            | grpc_status::UNIMPLEMENTED
            | grpc_status::INTERNAL
            | grpc_status::UNAVAILABLE
            | grpc_status::DATA_LOSS
            | FIRST_UNASSIGNED..
    )
}

/// The name of a status code. A code that gRPC does not have is UNKNOWN.
pub(crate) fn grpc_code(status: u32) -> &'static [u8] {
    let name = usize::try_from(status).ok();
    let name = name.and_then(|code| grpc_status::NAMES.get(code));
    name.map_or(b"UNKNOWN", |name| name.as_bytes())
}
