//! `incoming.when` as a condition in CEL: the callers whose context is kept.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use meshtrace_config::ConfigError;
use meshtrace_envoy::attribute;
use meshtrace_propagation::WhenConfig;

use super::names::FORWARDED_FOR;
use crate::cel::{has, lacks};

/// The condition for callers that are trusted; `None` where no caller is trusted.
///
/// The direction is that of the listener. It is set by the choice of the listener in which the
/// mutation stands.
pub(super) fn expression(when: &WhenConfig) -> Result<Option<String>, ConfigError> {
    let mut any = Vec::new();
    if let Some(header) = &when.header_absent {
        any.push(present(header)?);
    }
    if let Some(networks) = &when.not_from_cidrs {
        any.extend(within(networks)?);
    }
    Ok((!any.is_empty()).then(|| any.join(" || ")))
}

fn present(header: &str) -> Result<String, ConfigError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !header.bytes().all(plain) {
        return Err(ConfigError::new(
            "incoming.when.header_absent",
            format!(
                "invalid value: string {header:?}, expected a name of letters, digits, `-`, `_` and `.`: \
                 it becomes part of an expression"
            ),
        ));
    }
    Ok(has(&header.to_ascii_lowercase()))
}

/// `source.address` is the peer of the connection here. Behind another proxy that peer is not the
/// caller, so no network fits a request that came through a proxy.
fn within(networks: &[String]) -> Result<Option<String>, ConfigError> {
    let mut patterns = Vec::new();
    for (i, text) in networks.iter().enumerate() {
        let pattern = match text.parse() {
            Ok(IpNet::V4(network)) => Some(v4(network)),
            Ok(IpNet::V6(network)) => v6(network),
            Err(_) => None,
        };
        let pattern = pattern.ok_or_else(|| {
            ConfigError::new(
                format!("incoming.when.not_from_cidrs[{i}]"),
                format!(
                    "{text:?} cannot be told from an address as text, as a group of its prefix may be zero; use a \
                     filter chain of its own with `source_prefix_ranges`"
                ),
            )
        })?;
        patterns.push(format!(
            "{}.matches('{pattern}')",
            attribute::SOURCE_ADDRESS.expression
        ));
    }
    let direct = lacks(FORWARDED_FOR);
    Ok((!patterns.is_empty()).then(|| format!("({direct} && ({}))", patterns.join(" || "))))
}

/// `10.0.0.1:80`. `[::ffff:10.0.0.1]:80` is the same caller.
fn v4(network: Ipv4Net) -> String {
    let first = network.network().octets();
    let last = network.broadcast().octets();
    let mut pattern = String::from("^([[]::ffff:)?");
    for (i, (low, high)) in first.into_iter().zip(last).enumerate() {
        if (low, high) == (0, u8::MAX) {
            pattern.push_str("[0-9]");
            return pattern;
        }
        pattern.push_str(&octet(low, high));
        pattern.push_str(if i == 3 { "(]|:)" } else { "[.]" });
        if low != high {
            return pattern;
        }
    }
    pattern
}

/// The numbers from `low` to `high` in decimal.
fn octet(low: u8, high: u8) -> String {
    if low == high {
        return low.to_string();
    }
    let mut ways = Vec::new();
    for (from, to) in [(0, 9), (10, 99), (100, u8::MAX)] {
        let (from, to) = (low.max(from), high.min(to));
        if from <= to {
            decimals(
                from.to_string().as_bytes(),
                to.to_string().as_bytes(),
                "",
                &mut ways,
            );
        }
    }
    format!("({})", ways.join("|"))
}

/// The numbers from `low` to `high`, which have the same number of digits, after `before`.
fn decimals(low: &[u8], high: &[u8], before: &str, ways: &mut Vec<String>) {
    let ([from, low @ ..], [to, high @ ..]) = (low, high) else {
        return;
    };
    let is_all = |digits: &[u8], digit| digits.iter().all(|found| *found == digit);
    // This is true of the last digit, as no digits are behind it.
    if is_all(low, b'0') && is_all(high, b'9') {
        let class = match from == to {
            true => char::from(*from).to_string(),
            false => format!("[{}-{}]", char::from(*from), char::from(*to)),
        };
        ways.push(format!("{before}{class}{}", "[0-9]".repeat(low.len())));
        return;
    }
    for digit in *from..=*to {
        let before = format!("{before}{}", char::from(digit));
        let nines = vec![b'9'; high.len()];
        let zeros = vec![b'0'; low.len()];
        let low = if digit == *from { low } else { &zeros };
        let high = if digit == *to { high } else { &nines };
        decimals(low, high, &before, ways);
    }
}

/// `[2001:db8::1]:80`. The text of an address leaves out groups of zero, so only a prefix without
/// such a group is always at the same place of the text.
fn v6(network: Ipv6Net) -> Option<String> {
    let address = network.network();
    let length = network.prefix_len();
    if length == 128 {
        return Some(match address.to_ipv4_mapped() {
            Some(address) => v4(address.into()),
            None => format!("^[[]{address}]"),
        });
    }
    let mut pattern = String::from("^[[]");
    let mut left = length;
    for group in address.segments() {
        // The first digit of a group is not written where its top bits are zero.
        if group >> 12 == 0 && left < 16 || group == 0 {
            return None;
        }
        if left >= 16 {
            pattern.push_str(&format!("{group:x}:"));
            left -= 16;
        } else {
            // The group must have all four digits: one with fewer digits is another number.
            for digit in format!("{group:04x}").chars() {
                match left {
                    0 => pattern.push_str("[0-9a-f]"),
                    4.. => pattern.push(digit),
                    _ => {
                        let low = digit.to_digit(16)?;
                        let class = (low..low + (16 >> left))
                            .filter_map(|digit| char::from_digit(digit, 16));
                        pattern.push('[');
                        pattern.extend(class);
                        pattern.push(']');
                    }
                }
                left = left.saturating_sub(4);
            }
        }
        if left == 0 {
            return Some(pattern);
        }
    }
    None
}
