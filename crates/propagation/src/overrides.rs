//! The destinations that have a policy of their own, by cluster or by host.

use core::cmp::Ordering;

use meshtrace_config::{ConfigError, each};
use meshtrace_headers::{Headers, host_name};

use crate::config::{OverrideConfig, TraceContextConfig};
use crate::destination::DestinationPolicy;
use crate::format::Format;

/// The policies of single destinations, and how a destination is found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    /// In the order of the configuration, in which the first match wins.
    policies: Vec<DestinationPolicy>,
    clusters: Names,
    hosts: Names,
    /// `.example.com` for `*.example.com`.
    suffixes: Names,
}

/// Names, each with the place of its entry; sorted.
type Names = Vec<(Box<[u8]>, usize)>;

impl Overrides {
    /// Compiles the overrides of `config`.
    ///
    /// # Errors
    /// When an entry is impossible, with the path of its key.
    #[inline(never)]
    pub(crate) fn new(
        config: &TraceContextConfig,
        extract: &[Format],
    ) -> Result<Self, ConfigError> {
        let mut overrides = Self::default();
        each("overrides", &config.overrides, |_, entry| {
            overrides.add(config, extract, entry)
        })?;
        Ok(overrides)
    }

    fn add(
        &mut self,
        config: &TraceContextConfig,
        extract: &[Format],
        entry: &OverrideConfig,
    ) -> Result<(), ConfigError> {
        if entry.inject.is_none() && entry.clear.is_none() {
            return Err(ConfigError::new(
                "",
                "changes nothing; expected `inject`, `clear` or both",
            ));
        }
        let policy = DestinationPolicy::new(config, extract, Some(entry))?;
        match (&entry.cluster, &entry.host) {
            (Some(cluster), None) => self.push_cluster(cluster, policy),
            (None, Some(host)) => self.push_host(host, policy),
            (None, None) | (Some(_), Some(_)) => {
                Err(ConfigError::new("", "expected either `cluster` or `host`"))
            }
        }
    }

    fn push_cluster(&mut self, name: &str, policy: DestinationPolicy) -> Result<(), ConfigError> {
        let valid = !name.is_empty();
        let place = self.policies.len();
        let added = valid && insert(&mut self.clusters, name.as_bytes(), place);
        self.push(added, policy, || {
            refusal("cluster", name, valid, "expected the name of a cluster")
        })
    }

    fn push_host(&mut self, host: &str, policy: DestinationPolicy) -> Result<(), ConfigError> {
        let lower = host.to_ascii_lowercase();
        let lower = lower.strip_suffix('.').unwrap_or(&lower);
        let (names, name, domain) = match lower.strip_prefix("*.") {
            Some(domain) => (&mut self.suffixes, lower.trim_start_matches('*'), domain),
            None => (&mut self.hosts, lower, lower),
        };
        let valid = is_host(domain);
        let place = self.policies.len();
        let added = valid && insert(names, name.as_bytes(), place);
        self.push(added, policy, || {
            let expected = "expected a host without a port, or \"*.\" and one";
            refusal("host", host, valid, expected)
        })
    }

    fn push(
        &mut self,
        added: bool,
        policy: DestinationPolicy,
        refusal: impl FnOnce() -> ConfigError,
    ) -> Result<(), ConfigError> {
        if !added {
            return Err(refusal());
        }
        self.policies.push(policy);
        Ok(())
    }

    pub(crate) fn policies(&self) -> impl Iterator<Item = &DestinationPolicy> {
        self.policies.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    pub(crate) fn name_clusters(&self) -> bool {
        !self.clusters.is_empty()
    }

    /// The policy for a request to this `cluster`, and to the host that `headers` name.
    pub(crate) fn find(
        &self,
        headers: &Headers<'_>,
        cluster: Option<&[u8]>,
    ) -> Option<&DestinationPolicy> {
        if self.policies.is_empty() {
            return None;
        }
        let by_cluster = cluster.and_then(|name| place(&self.clusters, |known| known.cmp(name)));
        let first = by_cluster.into_iter().chain(self.by_host(headers)).min()?;
        self.policies.get(first)
    }

    fn by_host(&self, headers: &Headers<'_>) -> Option<usize> {
        if self.hosts.is_empty() && self.suffixes.is_empty() {
            return None;
        }
        let host = host_name(headers.lines(b":authority").next()?);
        let matching = self.suffixes.iter().filter(|(suffix, _)| {
            let tail = host
                .len()
                .checked_sub(suffix.len())
                .filter(|start| *start > 0);
            let tail = tail.and_then(|start| host.get(start..));
            tail.is_some_and(|tail| tail.eq_ignore_ascii_case(suffix))
        });
        let lower = || host.iter().map(u8::to_ascii_lowercase);
        let exact = place(&self.hosts, |known| known.iter().copied().cmp(lower()));
        matching.map(|(_, place)| *place).chain(exact).min()
    }
}

/// Inserts `name` and keeps `names` sorted. Returns whether `name` was not there before.
fn insert(names: &mut Names, name: &[u8], entry: usize) -> bool {
    match names.binary_search_by(|(known, _)| (**known).cmp(name)) {
        Ok(_) => false,
        Err(at) => {
            names.insert(at, (name.into(), entry));
            true
        }
    }
}

/// The place of the name that `compare` finds equal.
fn place(names: &Names, compare: impl Fn(&[u8]) -> Ordering) -> Option<usize> {
    let at = names.binary_search_by(|(name, _)| compare(name)).ok()?;
    names.get(at).map(|(_, place)| *place)
}

/// Whether `name` can be in `:authority`, before the port.
fn is_host(name: &str) -> bool {
    let is_address = name.starts_with('[') && name.ends_with(']');
    let is_part = |byte: u8| byte.is_ascii_graphic() && !b"*/@?#[]:".contains(&byte);
    match name {
        "" => false,
        _ if is_address => name.len() > 2,
        _ => name.bytes().all(is_part),
    }
}

fn refusal(key: &str, found: &str, valid: bool, expected: &str) -> ConfigError {
    match valid {
        true => ConfigError::new(key, "listed before; expected each destination once"),
        false => ConfigError::invalid_text(key, found, &expected),
    }
}
