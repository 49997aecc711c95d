//! Integers that are written in another form, such as `5000.0` or `1e3`.

/// A copy of the JSON text in which the number that ends at this line and column, both from 1, is
/// written as an integer. `None` where its value is not an integer.
pub(crate) fn as_integer(json: &[u8], (line, column): (usize, usize)) -> Option<Vec<u8>> {
    let is_number =
        |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    let mut start = 0;
    for _ in 1..line {
        let rest = json.get(start..)?;
        start += rest.iter().position(|byte| *byte == b'\n')? + 1;
    }
    let text = json.get(..start.checked_add(column)?)?;
    // Some positions are that of the character after the number.
    let end = text.iter().rposition(is_number)? + 1;
    let number = text.get(..end)?;
    let begin = number.iter().rposition(|byte| !is_number(byte))? + 1;
    let integer = integer(number.get(begin..)?)?;
    Some([json.get(..begin)?, &*integer, json.get(end..)?].concat())
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
