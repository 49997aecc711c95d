//! The small parts of a page.

use super::printable;

/// The number of service colours in the style sheet.
const COLOURS: usize = 6;

/// The class and the sign of a result.
pub(crate) fn mark(good: bool) -> (&'static str, &'static str) {
    if good {
        ("good", "✓")
    } else {
        ("bad", "✗")
    }
}

/// Text of several lines, escaped.
pub(crate) fn lines(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<_>>().join("\n")
}

pub(crate) fn colour(nth: usize) -> String {
    format!("--service:var(--s{})", nth % COLOURS)
}

/// Text as it may stand between tags and inside a quoted attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
