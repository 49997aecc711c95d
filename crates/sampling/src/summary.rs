//! What a configuration does, in words, and what it cannot do.

use meshtrace_config::list;

use crate::config::ParentPolicy;
use crate::probability::Threshold;
use crate::rule_sampler::RuleSampler;
use crate::sample::Sample;

/// A summary names at most this number of rules.
const NAMED: usize = 8;

impl RuleSampler {
    /// What this configuration does, in words. They follow "the filter". `unchanged` says what
    /// becomes of a request about which no rule decides.
    #[must_use]
    #[inline(never)]
    pub fn summary(&self, unchanged: &str) -> String {
        let say = |sample: &Sample| match sample {
            Sample::Always => "every request".to_owned(),
            Sample::Never => "none".to_owned(),
            Sample::Unchanged => unchanged.to_owned(),
            Sample::Ratio(threshold) => threshold.in_words(),
            Sample::PerSecond(bucket) => bucket.in_words(),
        };
        let rules = self
            .rules()
            .map(|(name, sample)| [name, ": ", &say(sample)].concat());
        let mut rules: Vec<String> = rules.take(NAMED).collect();
        let more = self.rules().count().saturating_sub(NAMED);
        if more > 0 {
            rules.push(format!("{more} more"));
        }
        let others = say(self.default_sample());
        let mut words = "samples by rule (".to_owned();
        match rules.is_empty() {
            true => words.push_str("no rule"),
            false => words.push_str(&list(rules.iter().map(String::as_str))),
        }
        words.push_str("; other requests: ");
        words.push_str(&others);
        words.push_str(match self.parent_policy() {
            ParentPolicy::Respect => "); a caller's decision stands",
            ParentPolicy::Ignore => "), whatever the caller decided",
            ParentPolicy::RespectSampled => "); a caller's decision to sample stands",
            ParentPolicy::RespectDropped => "); a caller's decision not to sample stands",
        });
        words
    }

    /// Whether no rule and no default ever decides.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let mut all = self
            .rules()
            .map(|(_, sample)| sample)
            .chain([self.default_sample()]);
        all.all(|sample| matches!(sample, Sample::Unchanged))
    }

    /// The warnings about this configuration, which is valid.
    #[must_use]
    #[inline(never)]
    pub fn cautions(&self) -> Vec<String> {
        let mut cautions = Vec::new();
        if self.lacks_secret() {
            cautions.push(
                "`force` keeps no request: the environment does not have the variable that \
                 `force.value_env` names; name it in `environment_variables` (Envoy), \
                 `vmConfig.env` (Istio) or `env.hostKeys` (Envoy Gateway)"
                    .to_owned(),
            );
        }
        cautions
    }
}

impl Threshold {
    /// The part of all traces that is kept: `1 in 100` or `30 %`.
    #[must_use]
    #[inline(never)]
    pub fn in_words(self) -> String {
        let (kept, all) = (self.kept(), Self::ALL);
        if kept >= all {
            return "every trace".to_owned();
        }
        let one_in = (all + kept / 2) / kept.max(1);
        // Within half a per cent, as a threshold has four digits.
        if one_in > 1 && (one_in * kept).abs_diff(all) < all / 200 {
            // Four digits: a threshold has no more.
            let unit = 10_u64.pow(one_in.ilog10().saturating_sub(3));
            return format!("1 trace in {}", (one_in + unit / 2) / unit * unit);
        }
        let all = all >> 20;
        // Rounded, and never 100 %.
        let per_mille = (((kept >> 20) * 1000 + all / 2) / all).min(999);
        format!("{}.{} % of all traces", per_mille / 10, per_mille % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_ratio_is_said_in_words() {
        for (ratio, words) in [
            (1.0, "every trace"),
            (0.5, "1 trace in 2"),
            (0.01, "1 trace in 100"),
            (0.001, "1 trace in 1000"),
            (1.0 / 3.0, "1 trace in 3"),
            (0.3, "30.0 % of all traces"),
            (0.995, "99.5 % of all traces"),
            (1e-9, "1 trace in 1000000000"),
        ] {
            let threshold = Threshold::from_ratio(ratio).expect("a ratio");
            assert_eq!(threshold.in_words(), words, "{ratio}");
        }
        assert_eq!(Threshold::ONE_IN_A_HUNDRED.in_words(), "1 trace in 100");
    }
}
