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
    /// The rules that fit every value.
    pub(super) present: RuleSet,
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
            names: by_name.map(|patterns| Values::build(&[], &patterns, &mut ())),
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
    /// It takes the time of sorting the texts: a worker answers no request meanwhile. `any` are rules
    /// that fit every value.
    #[inline(never)]
    pub(super) fn build(
        any: &[usize],
        patterns: &[(usize, &ValuePattern)],
        steps: &mut impl Steps,
    ) -> Self {
        let mut texts: Vec<(&[u8], bool, usize)> = Vec::new();
        let mut present = any.to_vec();
        for (rule, pattern) in patterns {
            match pattern {
                ValuePattern::Exact(text) => texts.push((text, true, *rule)),
                ValuePattern::Prefix(text) => texts.push((text, false, *rule)),
                ValuePattern::Present => present.push(*rule),
            }
        }
        texts.sort_unstable_by(|one, other| {
            steps.step();
            one.cmp(other)
        });
        let mut values = Self {
            exact: ByteMap::default(),
            prefixes: Vec::new(),
            present: RuleSet::of(present),
        };
        // A prefix stands before all texts that begin with it, so each text goes on from the one
        // before. A text of a rule is also a value that fits all more general rules.
        let mut longest = None;
        for (text, is_exact, rule) in texts {
            while let Some(prefix) = values.prefix(longest) {
                steps.step();
                if text.starts_with(&prefix.text) {
                    break;
                }
                longest = prefix.parent;
            }
            if is_exact {
                let Self {
                    exact,
                    prefixes,
                    present,
                } = &mut values;
                let general = longest.and_then(|longest| prefixes.get(longest));
                let general = || general.map_or(&*present, |prefix| &prefix.rules).clone();
                exact.change(text, general, |rules| rules.insert(rule));
                continue;
            }
            let general = values.prefix(longest);
            if general.is_none_or(|prefix| *prefix.text != *text) {
                let rules = general.map_or(&values.present, |prefix| &prefix.rules);
                let fresh = Prefix {
                    text: text.into(),
                    parent: longest,
                    rules: rules.clone(),
                };
                longest = Some(values.prefixes.len());
                values.prefixes.push(fresh);
            }
            let own = longest.and_then(|own| values.prefixes.get_mut(own));
            own.into_iter().for_each(|own| own.rules.insert(rule));
        }
        values
    }

    fn prefix(&self, place: Option<usize>) -> Option<&Prefix> {
        self.prefixes.get(place?)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
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
        let mut longest = self.prefix(after.checked_sub(1));
        // Each parent is the beginning of its child, so the bytes are compared once.
        let pairs = longest
            .iter()
            .flat_map(|prefix| prefix.text.iter().zip(value));
        let alike = pairs.take_while(|(one, other)| one == other).count();
        while let Some(prefix) = longest {
            steps.step();
            if prefix.text.len() <= alike {
                return &prefix.rules;
            }
            longest = self.prefix(prefix.parent);
        }
        &self.present
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn text(pattern: impl Into<Vec<u8>>) -> Box<[u8]> {
        pattern.into().into()
    }

    /// The steps of the load, and that each text is found.
    fn steps_of(patterns: &[ValuePattern]) -> u64 {
        let numbered: Vec<_> = patterns.iter().enumerate().collect();
        let mut steps = 0;
        let values = Values::build(&[], &numbered, &mut steps);
        for (rule, pattern) in numbered {
            let (ValuePattern::Exact(text) | ValuePattern::Prefix(text)) = pattern else {
                continue;
            };
            let rules = values.rules(text, &mut ());
            let index = u32::try_from(rule / 64).unwrap();
            assert_ne!(rules.word(index) & (1 << (rule % 64)), 0, "{rule}");
        }
        steps
    }

    /// Whatever the texts: alike but for their end, nested, all the same, exact beside prefixes.
    #[test]
    fn a_load_takes_little_more_than_the_number_of_rules() {
        type Kind = (&'static str, fn(usize) -> ValuePattern);
        let kinds: [Kind; 5] = [
            ("exact", |i| {
                ValuePattern::Exact(text(format!("{}{i:04}", "a".repeat(150))))
            }),
            ("prefix", |i| {
                ValuePattern::Prefix(text(format!("{}{i:04}", "a".repeat(150))))
            }),
            ("nested", |i| ValuePattern::Prefix(text("a".repeat(i + 1)))),
            ("the same", |_| ValuePattern::Prefix(text("a"))),
            ("beside", |i| match i % 2 {
                0 => ValuePattern::Prefix(text("a".repeat(i + 1))),
                _ => ValuePattern::Exact(text(format!("{}b{i}", "a".repeat(i / 2)))),
            }),
        ];
        for (kind, pattern) in kinds {
            let of = |rules| steps_of(&(0..rules).map(pattern).collect::<Vec<_>>());
            let (few, many) = (of(256), of(4096));
            assert!(
                many <= few * 16 * 3,
                "{kind}: {many} steps, of 256 rules {few}"
            );
            assert!(many <= 4096 * 32, "{kind}: {many} steps");
        }
    }
}
