//! Numbers of a configuration: integers in another form, such as `5000.0` or `1e3`, and floats.

/// The JSON number as an integer's digits. `None` where its value is not an integer.
pub(crate) fn as_integer(number: &str) -> Option<String> {
    String::from_utf8(integer(number.as_bytes())?).ok()
}

/// Moves the decimal point by the exponent. This is done with digits: a module that reads floats
/// for it is 20 kB larger.
fn integer(number: &[u8]) -> Option<Vec<u8>> {
    /// The most digits of a `u64`.
    const MAX_DIGITS: i32 = 20;

    let is_exponent = |byte: &u8| matches!(byte, b'e' | b'E');
    let (mantissa, exponent) = match number.iter().position(is_exponent) {
        Some(e) => (number.get(..e)?, number.get(e + 1..)?),
        None => (number, &b"0"[..]),
    };
    let exponent: i32 = core::str::from_utf8(exponent).ok()?.parse().ok()?;
    let mut integer = Vec::new();
    let mut point = None;
    for byte in mantissa {
        match byte {
            b'.' => point = Some(integer.len()),
            b'-' => {}
            digit => integer.push(*digit),
        }
    }
    let point = i32::try_from(point.unwrap_or(integer.len())).ok()?;
    let digits = point.checked_add(exponent)?;
    if !(0..=MAX_DIGITS).contains(&digits) {
        return None;
    }
    let digits = usize::try_from(digits).ok()?;
    if integer.iter().skip(digits).any(|digit| *digit != b'0') {
        return None;
    }
    integer.resize(digits, b'0');
    let zeros = integer.iter().take_while(|digit| **digit == b'0').count();
    integer.drain(..zeros);
    if integer.is_empty() {
        integer.push(b'0');
    } else if mantissa.starts_with(b"-") {
        integer.insert(0, b'-');
    }
    Some(integer)
}

/// The value of a JSON number, as serde_json reads it: exact up to 15 digits and a power of ten of
/// 22, and close to it beyond. `None` where it is too large for a float.
pub(crate) fn as_float(number: &str) -> Option<f64> {
    /// The largest power of ten that a float has exactly.
    const STEP: u32 = 22;

    let digits = number.strip_prefix('-').unwrap_or(number);
    let (mut significand, mut exponent) = (0_u64, 0_i32);
    let (mut is_fraction, mut is_full) = (false, false);
    for (place, byte) in digits.bytes().enumerate() {
        match byte {
            b'.' => is_fraction = true,
            b'0'..=b'9' => {
                let next = significand.checked_mul(10);
                let next = next.and_then(|next| next.checked_add(u64::from(byte - b'0')));
                match next.filter(|_| !is_full) {
                    Some(next) => {
                        significand = next;
                        exponent -= i32::from(is_fraction);
                    }
                    None => {
                        is_full = true;
                        exponent += i32::from(!is_fraction);
                    }
                }
            }
            _ => {
                let written = digits.get(place + 1..).unwrap_or_default();
                let far = match written.starts_with('-') {
                    true => i32::MIN,
                    false => i32::MAX,
                };
                exponent = exponent.saturating_add(written.parse().unwrap_or(far));
                break;
            }
        }
    }
    let mut value = significand as f64;
    let mut left = exponent.unsigned_abs();
    while left > 0 && value != 0.0 && value.is_finite() {
        let power = (0..left.min(STEP)).fold(1.0, |power, _| power * 10.0);
        value = match exponent > 0 {
            true => value * power,
            false => value / power,
        };
        left -= left.min(STEP);
    }
    if number.starts_with('-') {
        value = -value;
    }
    value.is_finite().then_some(value)
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn as_serde_json_reads_it(number: &str) {
        let expected: Option<f64> = serde_json::from_str(number).ok();
        let (Some(ours), Some(theirs)) = (as_float(number), expected) else {
            assert_eq!(as_float(number), expected, "{number}");
            return;
        };
        let difference = (ours - theirs).abs();
        assert!(
            ours == theirs || difference <= theirs.abs() * 1e-14 || difference < 1e-320,
            "{number}: {ours:e} {theirs:e}"
        );
    }

    #[test]
    fn numbers_at_the_edges() {
        for number in [
            "0",
            "-0",
            "0.0",
            "1",
            "-1.5",
            "18446744073709551615",
            "18446744073709551619",
            "184467440737095516190",
            "18446744073709551619.05",
            "1e22",
            "1E+22",
            "1e-22",
            "1e308",
            "1.7976931348623157e308",
            "1e309",
            "-1e400",
            "0e999999999999",
            "1e999999999999",
            "1e-999999999999",
            "5e-324",
            "1e-400",
            "0.00000000000000000000000001",
        ] {
            as_serde_json_reads_it(number);
        }
    }

    proptest! {
        /// What a ratio or a rate is written as: exactly the same float.
        #[test]
        fn a_short_number_is_exact(digits in 0_u64..1 << 53, point in 0_usize..22) {
            let unit = 10_u128.pow(u32::try_from(point).unwrap_or_default() + 1);
            let (whole, fraction) = (u128::from(digits) / unit, u128::from(digits) % unit);
            let number = format!("{whole}.{fraction:0width$}", width = point + 1);
            prop_assert_eq!(as_float(&number), number.parse().ok());
        }

        #[test]
        fn any_number_is_close(number in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?") {
            as_serde_json_reads_it(&number);
        }
    }
}
