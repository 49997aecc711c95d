//! The dates of HTTP (RFC 9110, section 5.6.7).

use core::time::Duration;

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// Reads a date in any of the three forms, as the time since the Unix epoch: `Sun, 06 Nov 1994
/// 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` and `Sun Nov  6 08:49:37 1994`. In all of them
/// the day is before the year, and the other words differ from each other.
pub(crate) fn since_epoch(date: &[u8]) -> Option<Duration> {
    let (mut month, mut time, mut day, mut year) = (None, None, None, None);
    for word in date.split(|byte| b" ,-".contains(byte)) {
        let place = MONTHS.iter().position(|month| *month == word);
        month = month.or(place);
        if word.contains(&b':') {
            time = Some(seconds(word)?);
        } else if let Some(number) = number(word) {
            let part = if day.is_none() { &mut day } else { &mut year };
            *part = Some(number);
        }
    }
    // Two digits of a year: the next ones are rather meant than those of a century ago.
    let year = match year? {
        year @ ..70 => year + 2000,
        year @ ..100 => year + 1900,
        year => year,
    };
    let day = day.filter(|day| (1..=31).contains(day))?;
    // The days until the first of March, from which on a leap day is the last of its year.
    let month = u64::try_from(month?).ok()?;
    let (years, months) = match month {
        0 | 1 => (year.checked_sub(1)?, month + 10),
        _ => (year, month - 2),
    };
    let leaps = years / 4 - years / 100 + years / 400;
    let days = 365 * years + leaps + (153 * months + 2) / 5 + day;
    // From the year 0 until 1970.
    let days = days.checked_sub(719_469)?;
    Some(Duration::from_secs(days * 86400 + time?))
}

/// Of `HH:MM:SS`.
fn seconds(time: &[u8]) -> Option<u64> {
    let mut parts = time.split(|byte| *byte == b':');
    let mut seconds = 0;
    for limit in [24, 60, 61] {
        let part = number(parts.next()?).filter(|part| *part < limit)?;
        seconds = seconds * 60 + part;
    }
    parts.next().is_none().then_some(seconds)
}

/// A number of at most four digits.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 4 {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        Some(number * 10 + u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn read(date: &str) -> Option<u64> {
        since_epoch(date.as_bytes()).map(|time| time.as_secs())
    }

    #[test]
    fn every_form_is_read() {
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            " Sun, 06 Nov 1994 08:49:37 GMT ",
        ] {
            assert_eq!(read(date), Some(784_111_777), "{date}");
        }
        for (date, time) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sat, 29 Feb 2020 23:59:59 GMT", 1_583_020_799),
            ("Sun, 01 Mar 2020 00:00:00 GMT", 1_583_020_800),
            ("Tue, 31 Dec 2999 23:59:59 GMT", 32_503_679_999),
            ("Wednesday, 01-Jan-69 00:00:00 GMT", 3_124_224_000),
        ] {
            assert_eq!(read(date), Some(time), "{date}");
        }
    }

    #[test]
    fn what_is_no_date_has_no_time() {
        for date in [
            "",
            "tomorrow",
            "Wed, 31 Dec 1969 23:59:59 GMT",
            "Sun, 06 Nov 1994 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08:49:37:1 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 06 Xyz 1994 08:49:37 GMT",
            "Sun, 06 Nov 08:49:37 GMT",
            "Sun, 06 Nov 19940 08:49:37 GMT",
        ] {
            assert_eq!(read(date), None, "{date}");
        }
    }

    /// Each day of four hundred years, after which the calendar repeats itself.
    #[test]
    fn each_day_is_the_day_after_the_last() {
        let days = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut expected = 0;
        for year in 1970..2370 {
            for (month, days) in MONTHS.iter().zip(days) {
                let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
                let leap = u64::from(*month == b"Feb" && is_leap);
                for day in 1..=days + leap {
                    let month = String::from_utf8_lossy(&month[..]);
                    let date = format!("Sun, {day:02} {month} {year} 00:00:00 GMT");
                    assert_eq!(read(&date), Some(expected), "{date}");
                    expected += 86400;
                }
            }
        }
    }
}
