//! Values of Envoy's attributes, as the host hands them over.

/// The integer in `value`: eight little-endian bytes.
#[must_use]
pub fn integer(value: &[u8]) -> Option<u64> {
    value.first_chunk::<8>().copied().map(u64::from_le_bytes)
}

/// A host without brackets, and its port (RFC 3986, section 3.2.2).
pub(crate) fn host_and_port(authority: &[u8]) -> (&[u8], Option<u16>) {
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
