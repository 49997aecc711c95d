//! `HOST:PORT`, as options take it.

use std::net::Ipv6Addr;

/// The host and the port of `text`. An address of IPv6 stands in brackets, and has none in the
/// answer.
///
/// # Errors
/// A sentence that begins with what was expected.
pub(crate) fn host_and_port(text: &str) -> Result<(String, u16), String> {
    if let Some((_, rest)) = text.split_once("://") {
        let rest = rest.split('/').next().unwrap_or_default();
        return Err(format!(
            "expected HOST:PORT without a scheme and a path, such as {rest}"
        ));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("expected HOST:PORT, such as [{text}]:4318"));
    }
    let expected = || "expected HOST:PORT, such as collector:4318".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
    let port = port.parse().ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| "expected HOST:PORT with a port of 1 to 65535".to_owned())?;
    let within = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = match within {
        Some(address) if address.parse::<Ipv6Addr>().is_ok() => address,
        None if is_name(host) => host,
        _ => return Err(expected()),
    };
    Ok((host.to_owned(), port))
}

/// Whether it has the characters of a name in DNS, or of an address of IPv4. An underscore is in the
/// names of services of docker compose.
fn is_name(host: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !host.is_empty() && host.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_a_port_are_told_apart() {
        for (text, host, port) in [
            ("collector:4318", "collector", 4318),
            ("otel_collector.obs.svc:1", "otel_collector.obs.svc", 1),
            ("127.0.0.1:65535", "127.0.0.1", 65535),
            ("[::1]:4318", "::1", 4318),
        ] {
            assert_eq!(host_and_port(text), Ok((host.to_owned(), port)), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_and_port_is_refused() {
        for (text, expected) in [
            (
                "http://x:4318",
                "without a scheme and a path, such as x:4318",
            ),
            (
                "https://x/v1/traces",
                "without a scheme and a path, such as x",
            ),
            ("::1", "such as [::1]:4318"),
            ("x", "such as collector:4318"),
            ("", "such as collector:4318"),
            (":4318", "such as collector:4318"),
            ("x:", "a port of 1 to 65535"),
            ("x:0", "a port of 1 to 65535"),
            ("x:65536", "a port of 1 to 65535"),
            ("x:4318/v1/traces", "a port of 1 to 65535"),
            ("a b:80", "such as collector:4318"),
            ("x/y:80", "such as collector:4318"),
            ("user@x:80", "such as collector:4318"),
            ("x\ny:80", "such as collector:4318"),
            ("[x]:80", "such as collector:4318"),
            ("::1:80:", "a port of 1 to 65535"),
            ("a:b:80", "such as collector:4318"),
        ] {
            let told = host_and_port(text).expect_err(text);
            assert!(told.ends_with(expected), "{text:?}: {told}");
        }
    }
}
