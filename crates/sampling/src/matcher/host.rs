//! Hosts by their name, and by a domain that they are below.

use meshtrace_headers::host_name;

use super::header::{ValuePattern, Values};
use super::set::RuleSet;
use super::steps::Steps;

/// The longest host name (RFC 1035, section 2.3.4). A longer host matches no pattern.
const MAX_HOST: usize = 255;

/// The pattern of a rule for the host: lower-case, without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostPattern {
    /// The host is this name.
    Exact(Box<[u8]>),
    /// The host ends with a dot and this name.
    Below(Box<[u8]>),
}

/// Hosts from their end to their beginning: a domain is the beginning of those below it.
#[derive(Clone, Debug)]
pub(super) struct HostMap {
    names: Values,
}

impl HostMap {
    #[inline(never)]
    pub(super) fn build(any: &[usize], patterns: &[(usize, &HostPattern)]) -> Self {
        let reversed = |name: &[u8], end: &[u8]| name.iter().rev().chain(end).copied().collect();
        let patterns: Vec<_> = patterns
            .iter()
            .map(|(rule, pattern)| match pattern {
                HostPattern::Exact(name) => (*rule, ValuePattern::Exact(reversed(name, b""))),
                HostPattern::Below(name) => (*rule, ValuePattern::Prefix(reversed(name, b"."))),
            })
            .collect();
        let patterns: Vec<_> = patterns.iter().map(|(rule, one)| (*rule, one)).collect();
        Self {
            names: Values::build(any, &patterns, &mut ()),
        }
    }

    /// The rules whose pattern `authority` fits, and the rules without a host pattern.
    pub(super) fn rules(&self, authority: &[u8], steps: &mut impl Steps) -> &RuleSet {
        if self.names.is_empty() {
            return &self.names.present;
        }
        let mut reversed = [0; MAX_HOST];
        let host = host_name(authority);
        let Some(reversed) = reversed.get_mut(..host.len()) else {
            return &self.names.present;
        };
        for (reversed, byte) in reversed.iter_mut().zip(host.iter().rev()) {
            *reversed = byte.to_ascii_lowercase();
        }
        self.names.rules(reversed, steps)
    }
}
