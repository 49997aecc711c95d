//! Consistent probability sampling: one number decides about a trace at every hop
//! (OpenTelemetry specification, "TraceState: Probability Sampling").

use arrayvec::ArrayVec;

/// Thresholds and randomness have 56 bits.
const BITS: u32 = 56;
const LIMIT: u64 = 1 << BITS;
/// The number of hexadecimal digits of a threshold.
const DIGITS: usize = 14;
/// "Sampling Threshold Value": 4 significant digits are exact enough for usual ratios.
const PRECISION: i32 = 4;

/// The smallest ratio that has a threshold: one in 2^56.
pub(crate) const MIN_RATIO: f64 = 1.0 / LIMIT as f64;

/// The rejection threshold `T`: a trace is kept when its randomness is at least that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Threshold(u64);

impl Threshold {
    /// Every trace is kept: a ratio of 1.
    pub const ALWAYS: Self = Self(0);

    /// One trace in a hundred is kept: a ratio of 0.01.
    pub const ONE_IN_A_HUNDRED: Self = Self(0xfd_70a4_0000_0000);

    /// The threshold that keeps `ratio` of all traces, with 4 significant hexadecimal digits behind
    /// the leading ones, as the specification's examples have it.
    ///
    /// `None` unless `ratio` is from 2^-56 to 1.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most 2^56, and not negative"
    )]
    pub fn from_ratio(ratio: f64) -> Option<Self> {
        if !(MIN_RATIO..=1.0).contains(&ratio) {
            return None;
        }
        // Small ratios begin with `f`s and large ones with zeros. These digits carry no precision.
        let leading = |part: f64| -exponent(part) / 4;
        let digits = PRECISION + leading(ratio).max(leading(1.0 - ratio)).max(0);
        let kept = (ratio * LIMIT as f64).round() as u64;
        let exact = LIMIT.saturating_sub(kept);
        let dropped_bits = BITS.saturating_sub(4 * digits.unsigned_abs());
        if dropped_bits == 0 {
            return Some(Self(exact));
        }
        let half = 1 << (dropped_bits - 1);
        let rounded = (exact + half) >> dropped_bits << dropped_bits;
        Some(Self(rounded.min(LIMIT - 1)))
    }

    /// Reads `th`: 1 to 14 lower-case hexadecimal digits, without trailing zeros in effect.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let number = hex(text)?;
        let missing = DIGITS.checked_sub(text.len())?;
        let shift = u32::try_from(missing * 4).ok()?;
        Some(Self(number << shift))
    }

    /// The value of `th`: trailing zeros are left out, and 0 is written as one digit.
    #[must_use]
    pub fn to_text(self) -> ArrayVec<u8, DIGITS> {
        let mut text: ArrayVec<u8, DIGITS> = (0..DIGITS)
            .map(|i| digit(self.0 >> (BITS as usize - 4 - 4 * i)))
            .collect();
        while text.len() > 1 && text.last() == Some(&b'0') {
            text.pop();
        }
        text
    }

    /// The number of all values of randomness.
    pub(crate) const ALL: u64 = LIMIT;

    /// The number of values of randomness whose traces are kept.
    pub(crate) const fn kept(self) -> u64 {
        LIMIT.saturating_sub(self.0)
    }

    /// Whether a trace of that `randomness` is kept.
    #[must_use]
    pub fn keeps(self, randomness: Randomness) -> bool {
        randomness.0 >= self.0
    }
}

/// The randomness `R` of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Randomness(u64);

impl Randomness {
    /// The right-most 56 bits of `number`: of a trace id, or of any random number.
    #[must_use]
    pub const fn from_low_bits(number: u64) -> Self {
        Self(number & (LIMIT - 1))
    }

    /// Reads `rv`: exactly 14 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        (text.len() == DIGITS)
            .then(|| hex(text))
            .flatten()
            .map(Self)
    }
}

/// The exponent of C's `frexp`: `part` is in [0.5, 1) times two to this.
fn exponent(part: f64) -> i32 {
    if part == 0.0 {
        return 0;
    }
    let biased = (part.to_bits() >> 52) & 0x7ff;
    i32::try_from(biased).unwrap_or(0) - 1022
}

fn hex(text: &[u8]) -> Option<u64> {
    if !(1..=DIGITS).contains(&text.len()) {
        return None;
    }
    text.iter().try_fold(0, |number: u64, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

fn digit(number: u64) -> u8 {
    match u8::try_from(number & 0xf).unwrap_or_default() {
        value @ 0..=9 => b'0' + value,
        value => b'a' + value - 10,
    }
}

/// The `ot` member of `tracestate`: `th`, `rv`, and the sub-keys of others
/// (OpenTelemetry specification, "TraceState Handling").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OtelState<'a> {
    /// The threshold that the trace was sampled with, where it is valid.
    pub threshold: Option<Threshold>,
    /// The randomness, where it is explicit and valid.
    pub randomness: Option<Randomness>,
    text: &'a [u8],
}

/// "The value … SHOULD NOT exceed 256 characters."
const MAX_TEXT: usize = 256;

impl<'a> OtelState<'a> {
    /// The member's key.
    pub const KEY: &'static [u8] = b"ot";

    /// Reads the member's value; of equal sub-keys the first counts.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Self {
        let mut state = Self {
            text,
            ..Self::default()
        };
        for (key, value) in pairs(text) {
            match key {
                b"th" if state.threshold.is_none() => state.threshold = Threshold::parse(value),
                b"rv" if state.randomness.is_none() => state.randomness = Randomness::parse(value),
                _ => {}
            }
        }
        state
    }

    /// The value with this `threshold`, or without one. The other sub-keys stay in their order. The
    /// value is empty where no sub-key is left.
    #[must_use]
    pub fn with_threshold(&self, threshold: Option<Threshold>) -> ArrayVec<u8, MAX_TEXT> {
        let mut text = ArrayVec::new();
        if let Some(threshold) = threshold {
            append(&mut text, &[b"th:", &threshold.to_text()]);
        }
        for (key, value) in pairs(self.text).filter(|(key, _)| *key != b"th") {
            append(&mut text, &[key, b":", value]);
        }
        text
    }
}

fn pairs(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    text.split(|byte| *byte == b';').filter_map(|pair| {
        let colon = pair.iter().position(|byte| *byte == b':')?;
        let (key, value) = pair.split_at_checked(colon)?;
        Some((key, value.split_first()?.1))
    })
}

/// Appends a pair whole, or not at all where it has no room.
fn append(text: &mut ArrayVec<u8, MAX_TEXT>, pair: &[&[u8]]) {
    let separator: &[u8] = if text.is_empty() { b"" } else { b";" };
    let length: usize = pair.iter().map(|part| part.len()).sum();
    if length + separator.len() > text.remaining_capacity() {
        return;
    }
    for part in core::iter::once(&separator).chain(pair) {
        // There is room for all of them.
        let _ = text.try_extend_from_slice(part);
    }
}
