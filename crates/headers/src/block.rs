//! The serialised header map of the proxy-wasm ABI, read in place.

/// A header map as `proxy_get_header_map_pairs` serialises it.
///
/// Layout (proxy-wasm ABI 0.2.1, "Serialization"): a `u32` count, then for each header the `u32`
/// lengths of its name and value, then each name and value followed by a NUL; integers are
/// little-endian. Names are lower-case in Envoy. Values are bytes, which need not be UTF-8.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    lengths: &'a [[u8; 8]],
    text: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Checks the block once, so that iterating it cannot leave its bounds.
    ///
    /// An empty block is an empty map. `None` when the lengths do not fit the bytes, which no
    /// client can cause: it would be a defect of the host.
    #[must_use]
    pub fn parse(block: &'a [u8]) -> Option<Self> {
        if block.is_empty() {
            return Some(Self::default());
        }
        let (count, rest) = block.split_first_chunk::<4>()?;
        let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
        let (lengths, text) = rest.split_at_checked(count.checked_mul(8)?)?;
        let (lengths, _) = lengths.as_chunks::<8>();

        // Each text is followed by its NUL, so all of them fit where their sum does.
        let needed = lengths.iter().fold(0_u64, |sum, lengths| {
            let (name, value) = split(*lengths);
            sum.saturating_add(u64::from(name) + u64::from(value) + 2)
        });
        let available = u64::try_from(text.len()).ok()?;
        (needed <= available).then_some(Self { lengths, text })
    }

    /// A map whose lengths and texts are apart, in the same layout. Where they do not fit each other,
    /// the lines that do not fit are not there.
    #[must_use]
    pub const fn of_parts(lengths: &'a [[u8; 8]], text: &'a [u8]) -> Self {
        Self { lengths, text }
    }

    /// Name and value of each header line, in the order in which the host keeps them. A header
    /// that was sent in several lines comes several times.
    pub fn iter(&self) -> Iter<'a> {
        Iter {
            lengths: self.lengths.iter(),
            text: self.text,
        }
    }

    /// The values of all lines named `name` (lower-case), in order.
    pub fn lines<'n>(&self, name: &'n [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.iter()
            .filter(move |(candidate, _)| *candidate == name)
            .map(|(_, value)| value)
    }

    /// Whether a header named `name` (lower-case) is present, with any value.
    #[must_use]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.iter().any(|(candidate, _)| candidate == name)
    }
}

impl<'a> IntoIterator for &Headers<'a> {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Iterates the header lines of [`Headers`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    lengths: core::slice::Iter<'a, [u8; 8]>,
    text: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = split(*self.lengths.next()?);
        let (name, rest) = terminated(self.text, name)?;
        let (value, rest) = terminated(rest, value)?;
        self.text = rest;
        Some((name, value))
    }
}

/// The lengths of a name and of its value.
fn split([n0, n1, n2, n3, v0, v1, v2, v3]: [u8; 8]) -> (u32, u32) {
    (
        u32::from_le_bytes([n0, n1, n2, n3]),
        u32::from_le_bytes([v0, v1, v2, v3]),
    )
}

/// Splits off `length` bytes and the NUL behind them.
fn terminated(text: &[u8], length: u32) -> Option<(&[u8], &[u8])> {
    let (head, rest) = text.split_at_checked(usize::try_from(length).ok()?)?;
    let (_nul, rest) = rest.split_first()?;
    Some((head, rest))
}

/// Serialises header lines as the host does.
#[cfg(feature = "encode")]
#[must_use]
pub fn encode<N: AsRef<[u8]>, V: AsRef<[u8]>>(lines: &[(N, V)]) -> Vec<u8> {
    let lines = lines.iter();
    let lines: Vec<_> = lines
        .map(|(name, value)| [name.as_ref(), value.as_ref()])
        .collect();
    encode_lines(&lines)
}

/// The same as [`encode`], of lines that are names and values in turn.
#[cfg(feature = "encode")]
#[must_use]
#[inline(never)]
pub fn encode_lines(lines: &[[&[u8]; 2]]) -> Vec<u8> {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes();
    let mut block = number(lines.len()).to_vec();
    for text in lines.as_flattened() {
        block.extend_from_slice(&number(text.len()));
    }
    for text in lines.as_flattened() {
        block.extend_from_slice(text);
        block.push(0);
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn lines(block: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        Some(
            Headers::parse(block)?
                .iter()
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect(),
        )
    }

    #[test]
    fn an_empty_block_is_an_empty_map() {
        assert_eq!(lines(b""), Some(vec![]));
        assert_eq!(lines(&0_u32.to_le_bytes()), Some(vec![]));
    }

    #[test]
    fn lines_come_in_order_with_repeats_empty_values_and_any_bytes() {
        let sent = [
            (&b"b3"[..], &b"0"[..]),
            (b"x", b""),
            (b"b3", b"\xff\xfe\0"),
            (b"", b"nameless"),
        ];
        let block = encode(&sent);
        let expected = sent.map(|(n, v)| (n.to_vec(), v.to_vec())).to_vec();
        assert_eq!(lines(&block), Some(expected));

        let headers = Headers::parse(&block).unwrap();
        let b3: Vec<_> = headers.lines(b"b3").collect();
        assert_eq!(b3, [&b"0"[..], b"\xff\xfe\0"]);
        assert!(headers.contains(b"x"));
        assert!(!headers.contains(b"y"));
    }

    #[test]
    fn a_block_that_is_cut_anywhere_is_refused() {
        let block = encode(&[("traceparent", "00-1"), ("b3", "0")]);
        for end in 1..block.len() {
            assert!(Headers::parse(&block[..end]).is_none(), "cut at {end}");
        }
    }

    #[test]
    fn a_map_in_parts_has_the_lines_that_fit() {
        let block = encode(&[("b3", "0"), ("x", "")]);
        let (lengths, text) = block[4..].split_at_checked(16).unwrap();
        let (lengths, _) = lengths.as_chunks();
        let of_parts = |text| Headers::of_parts(lengths, text).iter().collect::<Vec<_>>();
        let lines = [(&b"b3"[..], &b"0"[..]), (b"x", b"")];
        assert_eq!(of_parts(text), lines);
        for end in 0..text.len() {
            assert!(lines.starts_with(&of_parts(&text[..end])), "cut at {end}");
        }
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let with = |count: u32, name: u32| {
            let mut block = Vec::new();
            block.extend(count.to_le_bytes());
            block.extend(name.to_le_bytes());
            block.extend(1_u32.to_le_bytes());
            block.extend(b"a\0b\0");
            block
        };
        assert!(Headers::parse(&with(1, 1)).is_some());
        assert!(Headers::parse(&with(1, u32::MAX)).is_none());
        assert!(Headers::parse(&with(u32::MAX, 1)).is_none());
    }
}
