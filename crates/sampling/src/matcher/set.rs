//! A set of rules, as a bit vector whose empty words are left out.

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

    pub(super) fn summary(&self) -> u64 {
        self.summary
    }

    pub(super) fn word(&self, index: u32) -> u64 {
        let bit = 1_u64 << (index & 63);
        if self.summary & bit == 0 {
            return 0;
        }
        let place = (self.summary & (bit - 1)).count_ones();
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        self.words.get(place).copied().unwrap_or_default()
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
    }
}
