//! Hosts by their name, and by a domain that they are below.

use meshtrace_headers::host_name;

use super::map::ByteMap;
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

#[derive(Clone, Debug)]
pub(super) struct HostMap {
    exact: ByteMap<RuleSet>,
    below: ByteMap<RuleSet>,
    any: RuleSet,
    /// The number of labels of the longest key of `below`.
    depth: usize,
}

impl HostMap {
    #[inline(never)]
    pub(super) fn build(any: &[usize], patterns: &[(usize, &HostPattern)]) -> Self {
        let matching = |host: &[u8], is_exact: bool| {
            let fits = patterns.iter().filter(|(_, pattern)| match pattern {
                HostPattern::Exact(name) => is_exact && **name == *host,
                HostPattern::Below(name) if is_exact => is_below(host, name),
                HostPattern::Below(name) => **name == *host || is_below(host, name),
            });
            RuleSet::of(fits.map(|(rule, _)| *rule).chain(any.iter().copied()))
        };
        let mut map = Self {
            exact: ByteMap::default(),
            below: ByteMap::default(),
            any: RuleSet::of(any.iter().copied()),
            depth: 0,
        };
        for (_, pattern) in patterns {
            match pattern {
                HostPattern::Exact(name) => {
                    map.exact.change(name, || matching(name, true), |_| ());
                }
                HostPattern::Below(name) => {
                    map.depth = map.depth.max(labels(name));
                    map.below.change(name, || matching(name, false), |_| ());
                }
            }
        }
        map
    }

    /// The rules whose pattern `authority` fits, and the rules without a host pattern.
    pub(super) fn rules(&self, authority: &[u8], steps: &mut impl Steps) -> &RuleSet {
        if self.exact.is_empty() && self.below.is_empty() {
            return &self.any;
        }
        let mut lower = [0; MAX_HOST];
        let host = host_name(authority);
        let Some(lower) = lower.get_mut(..host.len()) else {
            return &self.any;
        };
        for (lower, byte) in lower.iter_mut().zip(host) {
            *lower = byte.to_ascii_lowercase();
        }
        steps.step();
        if let Some(rules) = self.exact.get(lower) {
            return rules;
        }
        let dots = lower.iter().enumerate().filter(|(_, byte)| **byte == b'.');
        let too_long = labels(lower).saturating_sub(self.depth + 1);
        for (dot, _) in dots.skip(too_long) {
            steps.step();
            if let Some(rules) = lower.get(dot + 1..).and_then(|name| self.below.get(name)) {
                return rules;
            }
        }
        &self.any
    }
}

fn is_below(host: &[u8], domain: &[u8]) -> bool {
    host.strip_suffix(domain)
        .is_some_and(|rest| rest.ends_with(b"."))
}

fn labels(name: &[u8]) -> usize {
    name.split(|byte| *byte == b'.').count()
}
