//! The host that a request names.

use crate::bytes::is_without;

/// The host of an `authority` such as `:authority` (RFC 3986, section 3.2.2), without its port and
/// without the dot that may end a full name. The address of IPv6 keeps its brackets.
#[must_use]
pub fn host_name(authority: &[u8]) -> &[u8] {
    let (host, _) = split_port(authority);
    host.strip_suffix(b".").unwrap_or(host)
}

/// The host of an `authority`, or of an address, and its port. The address of IPv6 loses its
/// brackets, unless more stands behind them: Envoy sends the copy of a request for `[::1]:80` to
/// `[::1]-shadow:80`. A text without a valid port is a host as a whole.
#[must_use]
pub fn host_and_port(authority: &[u8]) -> (&[u8], Option<u16>) {
    let (host, digits) = split_port(authority);
    match (host, digits.and_then(number)) {
        ([b'[', host @ .., b']'], Some(port)) => (host, Some(port)),
        (host, Some(port)) if !host.contains(&b':') || host.starts_with(b"[") => (host, Some(port)),
        _ => match authority {
            [b'[', host @ .., b']'] => (host, None),
            _ => (authority, None),
        },
    }
}

/// The host of an `authority` and its port, which is the `default` one where the authority has none or
/// an empty one (RFC 3986, section 3.2.3). What stands there and is no port is neither part of the
/// host nor a port. The rest is as [`host_and_port`] does it.
#[must_use]
pub fn server_and_port(authority: &[u8], default: Option<u16>) -> (&[u8], Option<u16>) {
    let (host, digits) = split_port(authority);
    let (host, port) = match digits {
        Some(_) if host.contains(&b':') && !host.starts_with(b"[") => (authority, default),
        None | Some([]) => (host, default),
        Some(digits) => (host, number(digits)),
    };
    match host {
        [b'[', host @ .., b']'] => (host, port),
        _ => (host, port),
    }
}

/// An `authority` without the user and the password that a client may have put before an `@`
/// (RFC 3986, section 3.2.1): they are secrets.
#[must_use]
pub fn without_user(authority: &[u8]) -> &[u8] {
    let at = authority.iter().rposition(|byte| *byte == b'@');
    let host = at.and_then(|at| authority.get(at + 1..));
    host.unwrap_or(authority)
}

/// The text before the last colon, and the text behind it. The colons of an address of IPv6 are in
/// brackets.
fn split_port(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    if is_without(authority, b':') {
        return (authority, None);
    }
    let colon = authority.iter().rposition(|byte| *byte == b':');
    match colon.and_then(|colon| authority.split_at_checked(colon)) {
        Some((host, [b':', port @ ..])) if !port.contains(&b']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn number(digits: &[u8]) -> Option<u16> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_user_and_a_password_are_no_part_of_a_host() {
        for (authority, host) in [
            ("shop.example:80", "shop.example:80"),
            ("user:secret@shop.example:80", "shop.example:80"),
            ("user@mail:secret@[::1]:80", "[::1]:80"),
            ("user:secret@", ""),
        ] {
            assert_eq!(without_user(authority.as_bytes()), host.as_bytes());
        }
    }

    #[test]
    fn a_host_is_what_stands_before_the_port() {
        for (authority, name, host, port) in [
            ("shop.example", "shop.example", "shop.example", None),
            ("shop.example:80", "shop.example", "shop.example", Some(80)),
            (
                "shop.example.:80",
                "shop.example",
                "shop.example.",
                Some(80),
            ),
            ("10.0.0.1:8080", "10.0.0.1", "10.0.0.1", Some(8080)),
            ("[::1]:80", "[::1]", "::1", Some(80)),
            ("[::1]", "[::1]", "::1", None),
            // Copies of requests, as Envoy names their host.
            ("a.b-shadow", "a.b-shadow", "a.b-shadow", None),
            ("a.b-shadow:80", "a.b-shadow", "a.b-shadow", Some(80)),
            (
                "10.0.0.1-shadow",
                "10.0.0.1-shadow",
                "10.0.0.1-shadow",
                None,
            ),
            (
                "10.0.0.1-shadow:80",
                "10.0.0.1-shadow",
                "10.0.0.1-shadow",
                Some(80),
            ),
            ("[::1]-shadow", "[::1]-shadow", "[::1]-shadow", None),
            ("[::1]-shadow:80", "[::1]-shadow", "[::1]-shadow", Some(80)),
            ("[::1:80", "[::1", "[::1", Some(80)),
            ("shop.example:", "shop.example", "shop.example:", None),
            ("shop.example:x", "shop.example", "shop.example:x", None),
            ("", "", "", None),
            (":", "", ":", None),
        ] {
            assert_eq!(host_name(authority.as_bytes()), name.as_bytes());
            let expected = (host.as_bytes(), port);
            assert_eq!(host_and_port(authority.as_bytes()), expected);
        }
        // An address of IPv6 without brackets has no port.
        assert_eq!(host_and_port(b"::1"), (&b"::1"[..], None));
    }

    #[test]
    fn what_is_no_port_is_neither_a_port_nor_part_of_the_host() {
        for (authority, host, port) in [
            ("a", "a", Some(80)),
            ("a:", "a", Some(80)),
            ("a:81", "a", Some(81)),
            ("a:00081", "a", Some(81)),
            ("a:65535", "a", Some(65535)),
            ("a:65536", "a", None),
            ("a:99999999999999999999", "a", None),
            ("a:x", "a", None),
            ("a:+81", "a", None),
            ("a:-1", "a", None),
            ("[::1]", "::1", Some(80)),
            ("[::1]:", "::1", Some(80)),
            ("[::1]:81", "::1", Some(81)),
            ("[::1]:65536", "::1", None),
            ("[::1]-shadow:65536", "[::1]-shadow", None),
            ("::1", "::1", Some(80)),
            ("::", "::", Some(80)),
            (":", "", Some(80)),
            ("", "", Some(80)),
        ] {
            let found = server_and_port(authority.as_bytes(), Some(80));
            assert_eq!(found, (host.as_bytes(), port), "{authority}");
        }
    }
}
