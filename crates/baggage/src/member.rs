//! Members of the list.

/// A `list-member` (W3C Baggage, section 3.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The text before the equals sign, without the white space around it.
    pub key: &'a [u8],
    /// The value, percent-encoded as it came, without the properties and the white space around it.
    pub value: &'a [u8],
    /// The whole member, with its properties.
    pub text: &'a [u8],
}

impl<'a> Member<'a> {
    /// Reads a member; `None` without an equals sign.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        let pair = text.split(|byte| *byte == b';').next()?;
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        Some(Self {
            key: pair.get(..equals)?.trim_ascii(),
            value: pair.get(equals + 1..)?.trim_ascii(),
            text,
        })
    }
}

/// The members of the header's lines, which are one list (RFC 9110, section 5.3). An element
/// without an equals sign is no member, and is left out.
pub fn members<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> impl Iterator<Item = Member<'a>> {
    lines
        .into_iter()
        .flat_map(elements)
        .filter_map(Member::parse)
}

/// The elements of a line, between its commas; empty ones are left out (RFC 9110, section 5.6.1.2).
pub(crate) fn elements(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|text| !text.is_empty())
}
