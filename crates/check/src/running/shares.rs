//! Who decided about sampling, and how.

use std::collections::BTreeMap;

use super::Observed;

/// Decisions about sampling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// The traces that are recorded.
    pub sampled: u64,
    /// The traces that are not.
    pub dropped: u64,
    /// The requests whose decision was left to others.
    pub other: u64,
}

impl Decisions {
    /// All of them.
    #[must_use]
    pub const fn all(self) -> u64 {
        self.sampled
            .saturating_add(self.dropped)
            .saturating_add(self.other)
    }
}

/// The decisions of a rule, of the default, of the callers, or of `force`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Who decided: `rule NAME`, `default`, `caller` or `force`.
    pub by: String,
    /// The decisions between the two readings.
    pub moved: Decisions,
    /// The decisions since the start.
    pub total: Decisions,
}

/// The shares of sampling that have decided anything since the start.
pub(super) fn of(observed: &Observed) -> Vec<Share> {
    let mut shares: BTreeMap<(u8, String), Share> = BTreeMap::new();
    for (name, total) in observed.after.owned().filter(|(_, total)| *total > 0) {
        let Some((order, by, decision)) = decision(name) else {
            continue;
        };
        let share = shares.entry((order, by.clone())).or_insert_with(|| Share {
            by,
            moved: Decisions::default(),
            total: Decisions::default(),
        });
        for (decisions, number) in [
            (&mut share.moved, observed.moved(name)),
            (&mut share.total, total),
        ] {
            match decision {
                "sampled" => decisions.sampled += number,
                "dropped" => decisions.dropped += number,
                _ => decisions.other += number,
            }
        }
    }
    shares.into_values().collect()
}

/// The order in which it is shown, who decided, and what.
fn decision(counter: &str) -> Option<(u8, String, &str)> {
    let rest = counter.strip_prefix("route_sampling.")?;
    let (by, decision) = rest.rsplit_once('.')?;
    if let Some(rule) = by.strip_prefix("rule.") {
        return Some((1, format!("rule {rule}"), decision));
    }
    match (by, decision) {
        ("force", "sampled") => Some((0, "force".to_owned(), decision)),
        ("default", _) => Some((2, by.to_owned(), decision)),
        ("parent", "sampled" | "dropped" | "deferred") => Some((3, "caller".to_owned(), decision)),
        _ => None,
    }
}
