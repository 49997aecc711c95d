//! Integers that are written in another form, such as `5000.0` or `1e3`.

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
