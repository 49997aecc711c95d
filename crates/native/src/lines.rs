//! Joins the lines of a repeated header, of which Envoy shows a tracer the first one alone.

use crate::call::EarlyHeaders;

/// The headers whose further lines mean something: lists ("Multiple `tracestate` header fields MUST
/// be handled as specified by RFC7230 Section 3.2.2", W3C Trace Context; the same of W3C Baggage),
/// and `traceparent`, of which a second line that names another trace makes the first one invalid.
/// Of other headers the first line counts, as in the Wasm filter.
const NAMES: [&[u8]; 3] = [b"traceparent", b"tracestate", b"baggage"];

/// Makes one line of the lines of each of these headers, with commas between them.
pub(crate) fn join(headers: &mut EarlyHeaders) {
    for name in NAMES {
        let Some((first, count)) = headers.line(name, 0) else {
            continue;
        };
        if count < 2 {
            continue;
        }
        let mut joined = first.to_vec();
        for place in 1..count {
            if let Some((line, _)) = headers.line(name, place) {
                joined.push(b',');
                joined.extend_from_slice(line);
            }
        }
        headers.set(name, &joined);
    }
}
