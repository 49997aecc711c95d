//! Reads the values of Envoy's tags.

use meshtrace_envoy::response_flag::SHORT_NAMES;

/// The flags from their form in access logs: short names, separated by commas.
pub(super) fn flags(text: &[u8]) -> u64 {
    if text == b"-" {
        return 0;
    }
    let bit = |name: &[u8]| {
        let mut names = SHORT_NAMES.iter();
        names.position(|known| known.as_bytes() == name)
    };
    let bits = text.split(|byte| *byte == b',').filter_map(bit);
    bits.fold(0, |flags, bit| flags | 1 << bit)
}

/// The number that decimal digits write.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    match digits {
        // Most are a size of zero or a status.
        [digit @ b'0'..=b'9'] => Some(u64::from(digit - b'0')),
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            let [a, b, c] = [a, b, c].map(|digit| u64::from(digit - b'0'));
            Some(a * 100 + b * 10 + c)
        }
        _ => core::str::from_utf8(digits).ok()?.parse().ok(),
    }
}

/// Whether a span of that name is a call that the router makes. Other calls, such as those of an
/// authoriser, are not the request's own.
pub(crate) fn is_of_router(operation: &[u8]) -> bool {
    operation.starts_with(b"router ")
}

/// Whether the span of a request is of an outbound listener. Envoy's name for it is "egress" and
/// the host.
pub(crate) fn is_egress(operation: &[u8]) -> bool {
    operation.starts_with(b"egress")
}

/// The text, where it is not empty.
pub(crate) fn some(text: &[u8]) -> Option<&[u8]> {
    (!text.is_empty()).then_some(text)
}
