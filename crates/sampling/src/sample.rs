//! What a rule decides about its requests.

use meshtrace_config::ConfigError;

use crate::bucket::Bucket;
use crate::config::SampleConfig;
use crate::probability::Threshold;

/// The compiled decision of a rule.
#[derive(Clone, Debug)]
pub(crate) enum Sample {
    Always,
    Never,
    Unchanged,
    Ratio(Threshold),
    PerSecond(Bucket),
}

impl SampleConfig {
    /// `path` is the decision's path in the configuration, `rule` the name of the rule in its
    /// counters.
    #[inline(never)]
    pub(crate) fn compile(self, path: &str, rule: &str) -> Result<Sample, ConfigError> {
        match self {
            Self::Always => Ok(Sample::Always),
            Self::Never => Ok(Sample::Never),
            Self::Unchanged => Ok(Sample::Unchanged),
            Self::Ratio(0.0) => Ok(Sample::Never),
            Self::Ratio(ratio) => {
                Threshold::from_ratio(ratio)
                    .map(Sample::Ratio)
                    .ok_or_else(|| {
                        let allowed = match ratio > 1.0 {
                            true => {
                                "a part of all traces, 0 < ratio <= 1 (one in a hundred is 0.01)"
                            }
                            false => "0, or 2^-56 <= ratio <= 1",
                        };
                        ConfigError::new(
                            format!("{path}.ratio"),
                            format!("impossible value: {}, expected {allowed}", text(ratio)),
                        )
                    })
            }
            Self::PerSecond(0.0) => Ok(Sample::Never),
            Self::PerSecond(rate) => Bucket::per_second(rate, rule)
                .map(Sample::PerSecond)
                .ok_or_else(|| {
                    ConfigError::new(
                        format!("{path}.per_second"),
                        format!(
                            "impossible value: {}, expected 0, or from 0.00001 to 1000000",
                            text(rate)
                        ),
                    )
                }),
        }
    }
}

/// The shortest text of a number, as serde_json writes it: what `core` has for that is 9 kB more.
fn text(number: f64) -> String {
    let text = zmij::Buffer::new().format(number).to_owned();
    match text.strip_suffix(".0") {
        Some(whole) => whole.to_owned(),
        None => text,
    }
}
