//! Joins the lines of a header in one value.

use crate::Arena;

/// Joins `lines` with `separator` between them; `None` where the arena is full.
pub fn join<'a, 'l, I: Iterator<Item = &'l [u8]>>(
    lines: impl Fn() -> I,
    separator: &[u8],
    arena: &'a Arena,
) -> Option<&'a [u8]> {
    let length = lines().fold(0_usize, |length, line| {
        let with_separator = line.len().saturating_add(separator.len());
        length.saturating_add(with_separator)
    });
    let mut text = bumpalo::collections::Vec::new_in(arena);
    text.try_reserve_exact(length).ok()?;
    for (i, line) in lines().enumerate() {
        if i > 0 {
            text.extend_from_slice(separator);
        }
        text.extend_from_slice(line);
    }
    Some(text.into_bump_slice())
}
