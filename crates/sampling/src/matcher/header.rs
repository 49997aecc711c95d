//! Headers by their value, by the beginning of the value, or by their presence. Of a repeated
//! header the first line counts.

use arrayvec::ArrayVec;
use meshtrace_headers::Headers;

use super::map::ByteMap;
use super::set::RuleSet;
use super::steps::Steps;

/// The pattern of a rule for one header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderPattern {
    /// The header's name, in lower case.
    pub(crate) name: Box<[u8]>,
    pub(crate) value: ValuePattern,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ValuePattern {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Present,
}

impl HeaderPattern {
    pub(super) fn fits(&self, headers: &Headers<'_>) -> bool {
        let first = headers.lines(&self.name).next();
        first.is_some_and(|value| self.value.fits(value))
    }
}

impl ValuePattern {
    fn fits(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => **text == *value,
            Self::Prefix(text) => value.starts_with(text),
            Self::Present => true,
        }
    }
}

/// The first header of each rule, by name and value. The other headers of a rule are checked only
/// where everything else fits.
#[derive(Clone, Debug)]
pub(super) struct HeaderMap {
    names: ByteMap<Values>,
    any: RuleSet,
}

#[derive(Clone, Debug)]
pub(super) struct Values {
    /// The rules that this value fits: also those with a prefix of the value, or with any value.
    exact: ByteMap<RuleSet>,
    /// The prefixes, sorted.
    prefixes: Vec<Prefix>,
    present: RuleSet,
}

#[derive(Clone, Debug)]
struct Prefix {
    text: Box<[u8]>,
    /// The longest shorter prefix in the list with which `text` begins.
    parent: Option<usize>,
    /// The rules that this prefix fits: also those with a shorter prefix, or with any value.
    rules: RuleSet,
}

/// The most header names, out of those in rules, by which one request is looked up. Where a request
/// has more of them, every rule is a candidate.
const MAX_NAMES: usize = 16;

/// The rules that the headers of one request fit.
#[derive(Clone, Debug)]
pub(super) struct Matching<'r> {
    any: &'r RuleSet,
    sets: ArrayVec<(&'r Values, &'r RuleSet), MAX_NAMES>,
    /// The request has too many of these names, so every rule is a candidate.
    pub(super) is_unknown: bool,
}

impl HeaderMap {
    #[inline(never)]
    pub(super) fn build(any: &[usize], patterns: &[(usize, &HeaderPattern)]) -> Self {
        let mut by_name: ByteMap<Vec<(usize, &ValuePattern)>> = ByteMap::default();
        for (rule, pattern) in patterns {
            by_name.change(&pattern.name, Vec::new, |values| {
                values.push((*rule, &pattern.value));
            });
        }
        Self {
            names: by_name.map(|patterns| Values::build(&patterns)),
            any: RuleSet::of(any.iter().copied()),
        }
    }

    pub(super) fn matching<'r>(
        &'r self,
        headers: &Headers<'_>,
        steps: &mut impl Steps,
    ) -> Matching<'r> {
        let mut matching = Matching {
            any: &self.any,
            sets: ArrayVec::new(),
            is_unknown: false,
        };
        if self.names.is_empty() {
            return matching;
        }
        for (name, value) in headers {
            steps.step();
            let Some(values) = self.names.get(name) else {
                continue;
            };
            let mut seen = matching.sets.iter();
            if seen.any(|(known, _)| core::ptr::eq(*known, values)) {
                continue;
            }
            let rules = values.rules(value, steps);
            if matching.sets.try_push((values, rules)).is_err() {
                matching.is_unknown = true;
                break;
            }
        }
        matching
    }
}

impl Matching<'_> {
    pub(super) fn summary(&self) -> u64 {
        if self.is_unknown {
            return u64::MAX;
        }
        let sets = self.sets.iter();
        sets.fold(self.any.summary(), |all, (_, set)| all | set.summary())
    }

    pub(super) fn word(&self, index: u32) -> u64 {
        if self.is_unknown {
            return u64::MAX;
        }
        let sets = self.sets.iter();
        sets.fold(self.any.word(index), |all, (_, set)| all | set.word(index))
    }
}

impl Values {
    #[inline(never)]
    pub(super) fn build(patterns: &[(usize, &ValuePattern)]) -> Self {
        // The text of a rule is also a value that fits this rule and all more general ones.
        let fitting = |text: &[u8], whole: bool| {
            let fits = patterns.iter().filter(|(_, pattern)| match pattern {
                ValuePattern::Exact(_) if !whole => false,
                pattern => pattern.fits(text),
            });
            RuleSet::of(fits.map(|(rule, _)| *rule))
        };
        let mut texts: Vec<&[u8]> = Vec::new();
        let mut exact = ByteMap::default();
        let mut present = Vec::new();
        for (rule, pattern) in patterns {
            match pattern {
                ValuePattern::Exact(text) => {
                    exact.change(text, || fitting(text, true), |_| ());
                }
                ValuePattern::Prefix(text) => texts.push(text),
                ValuePattern::Present => present.push(*rule),
            }
        }
        texts.sort_unstable();
        texts.dedup();
        let mut prefixes: Vec<Prefix> = Vec::new();
        for text in texts {
            let mut parent = prefixes.len().checked_sub(1);
            while let Some(shorter) = parent.and_then(|parent| prefixes.get(parent)) {
                if text.starts_with(&shorter.text) {
                    break;
                }
                parent = shorter.parent;
            }
            prefixes.push(Prefix {
                text: text.into(),
                parent,
                rules: fitting(text, false),
            });
        }
        Self {
            exact,
            prefixes,
            present: RuleSet::of(present),
        }
    }

    pub(super) fn rules(&self, value: &[u8], steps: &mut impl Steps) -> &RuleSet {
        steps.step();
        if let Some(rules) = self.exact.get(value) {
            return rules;
        }
        let after = self.prefixes.partition_point(|prefix| {
            steps.step();
            *prefix.text <= *value
        });
        let mut longest = after.checked_sub(1);
        while let Some(prefix) = longest.and_then(|longest| self.prefixes.get(longest)) {
            steps.step();
            if value.starts_with(&prefix.text) {
                return &prefix.rules;
            }
            longest = prefix.parent;
        }
        &self.present
    }
}
