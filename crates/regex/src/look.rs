//! What stands before and behind a place: `^`, `$`, `\b` and the like.

/// What must hold at a place between two symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Start,
    End,
    StartOfLine,
    EndOfLine,
    Word,
    NotWord,
    StartOfWord,
    EndOfWord,
    /// No letter of a word before.
    StartOfWordHalf,
    /// No letter of a word behind.
    EndOfWordHalf,
}

/// The symbol on one side of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// There is none.
    None,
    Newline,
    /// A letter, a digit or `_`, of ASCII.
    Word,
    Other,
}

impl Side {
    pub(crate) const ALL: [Self; 4] = [Self::None, Self::Newline, Self::Word, Self::Other];

    pub(crate) fn of(symbol: Option<u32>) -> Self {
        match symbol.map(u8::try_from) {
            None => Self::None,
            Some(Ok(b'\n')) => Self::Newline,
            Some(Ok(byte)) if byte.is_ascii_alphanumeric() || byte == b'_' => Self::Word,
            Some(_) => Self::Other,
        }
    }
}

impl Look {
    pub(crate) fn holds(self, before: Side, behind: Side) -> bool {
        let (left, right) = (before == Side::Word, behind == Side::Word);
        match self {
            Self::Start => before == Side::None,
            Self::End => behind == Side::None,
            Self::StartOfLine => matches!(before, Side::None | Side::Newline),
            Self::EndOfLine => matches!(behind, Side::None | Side::Newline),
            Self::Word => left != right,
            Self::NotWord => left == right,
            Self::StartOfWord => !left && right,
            Self::EndOfWord => left && !right,
            Self::StartOfWordHalf => !left,
            Self::EndOfWordHalf => !right,
        }
    }
}
