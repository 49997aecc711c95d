//! Sets of symbols: bytes, or characters.

/// Ranges of symbols, both ends included, in order and without a gap of nothing between two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Class(Vec<(u32, u32)>);

const DIGIT: &[(u8, u8)] = &[(b'0', b'9')];
const SPACE: &[(u8, u8)] = &[(b'\t', b'\r'), (b' ', b' ')];
const WORD: &[(u8, u8)] = &[(b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')];

/// The ranges of `\d`, `\s` and `\w`.
pub(crate) fn perl(letter: char) -> Option<Class> {
    Some(Class::of(match letter {
        'd' => DIGIT,
        's' => SPACE,
        'w' => WORD,
        _ => return None,
    }))
}

/// The ranges of `[:name:]`.
pub(crate) fn posix(name: &str) -> Option<Class> {
    Some(Class::of(match name {
        "alnum" => &[(b'0', b'9'), (b'A', b'Z'), (b'a', b'z')],
        "alpha" => &[(b'A', b'Z'), (b'a', b'z')],
        "ascii" => &[(0, 0x7f)],
        "blank" => &[(b'\t', b'\t'), (b' ', b' ')],
        "cntrl" => &[(0, 0x1f), (0x7f, 0x7f)],
        "digit" => DIGIT,
        "graph" => &[(b'!', b'~')],
        "lower" => &[(b'a', b'z')],
        "print" => &[(b' ', b'~')],
        "punct" => &[(b'!', b'/'), (b':', b'@'), (b'[', b'`'), (b'{', b'~')],
        "space" => SPACE,
        "upper" => &[(b'A', b'Z')],
        "word" => WORD,
        "xdigit" => &[(b'0', b'9'), (b'A', b'F'), (b'a', b'f')],
        _ => return None,
    }))
}

impl Class {
    fn of(ranges: &[(u8, u8)]) -> Self {
        let ranges = ranges.iter();
        Self(
            ranges
                .map(|(from, to)| ((*from).into(), (*to).into()))
                .collect(),
        )
    }

    /// All symbols to `last`, without `but`.
    pub(crate) fn all(last: u32, but: Option<char>) -> Self {
        let mut class = Self::default();
        if let Some(but) = but {
            class.add(but.into(), but.into());
        }
        class.negated(last)
    }

    pub(crate) fn add(&mut self, from: u32, to: u32) {
        self.0.push((from, to));
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    pub(crate) fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }

    pub(crate) fn has(&self, symbol: u32) -> bool {
        self.0
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&symbol))
    }

    /// With the other case of each letter of ASCII.
    pub(crate) fn fold(&mut self) {
        let mut folded = Vec::new();
        for (from, to) in &self.0 {
            for (first, last, other) in [(b'A', b'Z', 32_i32), (b'a', b'z', -32)] {
                let from = (*from).max(first.into());
                let to = (*to).min(last.into());
                if let (true, Some(from), Some(to)) = (
                    from <= to,
                    from.checked_add_signed(other),
                    to.checked_add_signed(other),
                ) {
                    folded.push((from, to));
                }
            }
        }
        self.0.append(&mut folded);
    }

    /// In order, and each symbol in one range.
    pub(crate) fn in_order(mut self) -> Self {
        self.0.sort_unstable();
        let mut ordered: Vec<(u32, u32)> = Vec::new();
        for (from, to) in self.0 {
            match ordered.last_mut() {
                Some((_, last)) if from <= last.saturating_add(1) => *last = to.max(*last),
                _ => ordered.push((from, to)),
            }
        }
        Self(ordered)
    }

    /// The symbols to `last` that are not in it.
    pub(crate) fn negated(self, last: u32) -> Self {
        let mut negated = Self::default();
        let mut next = 0;
        for (from, to) in self.in_order().0 {
            if next < from {
                negated.add(next, from - 1);
            }
            next = to.saturating_add(1);
        }
        if next <= last {
            negated.add(next, last);
        }
        negated
    }
}
