//! A set of rules, as a bit vector whose empty words are left out.

use core::mem;

/// The most rules of a configuration: one summary word of 64 bits stands for 64 words of 64 bits.
pub(crate) const MAX_RULES: usize = 64 * 64;

/// Rules by their place in the configuration, below [`MAX_RULES`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RuleSet {
    /// Bit `w` is set where word `w` is not empty.
    summary: u64,
    words: Box<[u64]>,
}

impl RuleSet {
    pub(super) fn of(rules: impl IntoIterator<Item = usize>) -> Self {
        let mut all = [0_u64; 64];
        for rule in rules {
            if let Some(word) = all.get_mut(rule / 64) {
                *word |= 1 << (rule % 64);
            }
        }
        let mut summary = 0;
        let mut words = Vec::new();
        for (i, word) in all.into_iter().enumerate().filter(|(_, word)| *word != 0) {
            summary |= 1 << i;
            words.push(word);
        }
        Self {
            summary,
            words: words.into(),
        }
    }

    /// Adds a rule, below [`MAX_RULES`].
    pub(super) fn insert(&mut self, rule: usize) {
        let Some(index) = u32::try_from(rule / 64).ok().filter(|index| *index < 64) else {
            return;
        };
        let (bit, place) = self.place(index);
        let mut words = mem::take(&mut self.words).into_vec();
        if self.summary & bit == 0 {
            self.summary |= bit;
            words.insert(place.min(words.len()), 0);
        }
        if let Some(word) = words.get_mut(place) {
            *word |= 1 << (rule % 64);
        }
        self.words = words.into();
    }

    pub(super) fn summary(&self) -> u64 {
        self.summary
    }

    pub(super) fn word(&self, index: u32) -> u64 {
        let (bit, place) = self.place(index);
        if self.summary & bit == 0 {
            return 0;
        }
        self.words.get(place).copied().unwrap_or_default()
    }

    /// The bit of the summary for a word, and how many words stand before it.
    fn place(&self, index: u32) -> (u64, usize) {
        let bit = 1_u64 << (index & 63);
        let before = (self.summary & (bit - 1)).count_ones();
        (bit, usize::try_from(before).unwrap_or(usize::MAX))
    }
}

/// The rules of several sets. It is made anew for each request, without memory from the heap.
#[derive(Clone, Debug)]
pub(super) struct Union {
    /// Bit `w` is set where word `w` is not empty.
    summary: u64,
    words: [u64; 64],
}

impl Default for Union {
    fn default() -> Self {
        Self {
            summary: 0,
            words: [0; 64],
        }
    }
}

impl Union {
    pub(super) fn add(&mut self, set: &RuleSet) {
        let mut indexes = set.summary;
        for word in &set.words {
            let index = usize::try_from(indexes.trailing_zeros()).unwrap_or(usize::MAX);
            indexes &= indexes.wrapping_sub(1);
            if let Some(all) = self.words.get_mut(index) {
                *all |= word;
            }
        }
        self.summary |= set.summary;
    }

    pub(super) fn summary(&self) -> u64 {
        self.summary
    }

    pub(super) fn word(&self, index: u32) -> u64 {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        self.words.get(index).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_set_has_what_was_put_into_it() {
        let rules = [0, 63, 64, 200, 4095];
        let set = RuleSet::of(rules);
        let mut found = Vec::new();
        for word in 0..64 {
            for bit in 0..64 {
                if set.word(word) & (1 << bit) != 0 {
                    found.push(usize::try_from(word * 64 + bit).unwrap());
                }
            }
        }
        assert_eq!(found, rules);
        assert_eq!(RuleSet::of([]), RuleSet::default());
        let mut inserted = RuleSet::default();
        for rule in [200, 4095, 63, 64, 0, 63, 4096, usize::MAX] {
            inserted.insert(rule);
        }
        assert_eq!(inserted, set);
    }

    #[test]
    fn a_union_has_what_is_in_one_of_its_sets() {
        let mut union = Union::default();
        for rules in [&[1, 4095][..], &[], &[0, 64], &[64, 130]] {
            union.add(&RuleSet::of(rules.iter().copied()));
        }
        let all = RuleSet::of([0, 1, 64, 130, 4095]);
        assert_eq!(union.summary(), all.summary());
        for index in 0..64 {
            assert_eq!(union.word(index), all.word(index), "{index}");
        }
    }
}
