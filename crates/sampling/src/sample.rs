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

/// The shortest decimal that is the number, as serde_json writes it, and 12 digits where it is far
/// from 1. What the standard library has for that is 9 kB of a module, and what
/// serde_json has 18 kB.
#[inline(never)]
fn text(number: f64) -> String {
    /// From here on the digits have no room in an integer.
    const TOO_MANY: f64 = 9e18;

    let sign = if number < 0.0 { "-" } else { "" };
    let size = number.abs();
    if size == 0.0 || (1e-5..1e16).contains(&size) {
        let mut power = 1.0;
        for point in 0..=22_usize {
            let digits = (size * power).round_ties_even();
            if digits < TOO_MANY && digits / power == size {
                return [sign, &decimal(digits, point)].concat();
            }
            power *= 10.0;
        }
    }
    let (mut one_digit, mut exponent) = (size, 0_i32);
    while one_digit >= 10.0 && exponent < 400 {
        exponent += 1;
        one_digit /= 10.0;
    }
    while one_digit < 1.0 && exponent > -400 {
        exponent -= 1;
        one_digit *= 10.0;
    }
    let digits = decimal((one_digit * 1e11).round_ties_even(), 11);
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    let plus = if exponent < 0 { "" } else { "+" };
    format!("{sign}{digits}e{plus}{exponent}")
}

/// A whole number, with a point before its last `point` digits.
fn decimal(digits: f64, point: usize) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is whole, from 0 and below 2^63"
    )]
    let digits = digits as u64;
    let mut text = format!("{digits:0width$}", width = point + 1);
    if point > 0 {
        text.insert(text.len() - point, '.');
    }
    text
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn as_serde_json_writes_it(number: f64) -> String {
        let text = serde_json::json!(number).to_string();
        text.strip_suffix(".0").unwrap_or(&text).to_owned()
    }

    #[test]
    fn numbers_far_from_one() {
        for (number, expected) in [
            (0.0, "0"),
            (-2.0, "-2"),
            (1.5e300, "1.5e+300"),
            (1e16, "1e+16"),
            (-2.5e-7, "-2.5e-7"),
            (0.1 + 0.2, "0.30000000000000004"),
        ] {
            assert_eq!(text(number), expected);
        }
        assert_eq!(text(f64::MAX), "1.79769313486e+308");
        assert!(text(5e-324).ends_with("e-324"), "{}", text(5e-324));
    }

    proptest! {
        #[test]
        fn a_number_of_15_digits_is_as_serde_json_writes_it(
            digits in -999_999_999_999_999_i64..1_000_000_000_000_000,
            divisions in 0_u32..6,
            point in 0_i32..20,
        ) {
            let digits = digits / 1000_i64.pow(divisions);
            let number: f64 = format!("{digits}e-{point}").parse().unwrap();
            let size = number.abs();
            prop_assume!(number == 0.0 || (1e-5..1e16).contains(&size));
            prop_assert_eq!(text(number), as_serde_json_writes_it(number));
        }

        #[test]
        fn any_number_is_close(number in any::<f64>()) {
            prop_assume!(number.is_normal());
            let close: f64 = text(number).parse().unwrap();
            prop_assert!((close / number - 1.0).abs() < 1e-10, "{number:e} {close:e}");
        }
    }
}
