//! What Envoy's response flags mean for a span: who failed, and how the flags are written.

use arrayvec::ArrayVec;
use meshtrace_envoy::response_flag::{self, SHORT_NAMES};

/// The order in which the flags are set, by bit. Access logs write the flags in this order, which
/// the number does not show. Filters in front of the router set some of them first. The router sets
/// the next ones before it sends the request. Then come the retries, then the end of the last
/// attempt, then the end of the client.
const ORDER: [usize; 30] = [
    17, 18, 9, 10, 11, 12, 13, 20, 21, 25, 26, 8, 24, 0, 15, 7, 1, 2, 3, 4, 5, 6, 19, 23, 16, 22,
    27, 29, 14, 28,
];

/// The client closed the connection or reset the stream.
pub(crate) const CLIENT_WENT_AWAY: u64 =
    response_flag::DOWNSTREAM_CONNECTION_TERMINATION | response_flag::DOWNSTREAM_REMOTE_RESET;
/// The upstream gave no answer, or not all of it.
pub(crate) const UPSTREAM_FAILED: u64 = response_flag::NO_HEALTHY_UPSTREAM
    | response_flag::UPSTREAM_REQUEST_TIMEOUT
    | response_flag::UPSTREAM_REMOTE_RESET
    | response_flag::UPSTREAM_CONNECTION_FAILURE
    | response_flag::UPSTREAM_CONNECTION_TERMINATION
    | response_flag::UPSTREAM_OVERFLOW
    | response_flag::UPSTREAM_MAX_STREAM_DURATION_REACHED
    | response_flag::UPSTREAM_PROTOCOL_ERROR
    | response_flag::DNS_RESOLUTION_FAILED;

const _: () = assert!(CLIENT_WENT_AWAY == 0x1000_4000 && UPSTREAM_FAILED == 0x0488_00f6);

/// The names, separated by commas, as access logs write them.
pub(crate) fn names(flags: u64) -> ArrayVec<u8, 128> {
    let mut names = ArrayVec::new();
    if flags == 0 {
        return names;
    }
    let set = ORDER.iter().filter(|bit| flags & (1 << **bit) != 0);
    for name in set.filter_map(|bit| SHORT_NAMES.get(*bit)) {
        let comma: &[u8] = if names.is_empty() { b"" } else { b"," };
        // All of them take fewer than 128 bytes.
        let _ = names.try_extend_from_slice(comma);
        let _ = names.try_extend_from_slice(name.as_bytes());
    }
    names
}
