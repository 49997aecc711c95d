//! The text that an error quotes from a configuration: short enough for a log line, and without
//! characters that break a line.

use core::fmt::Write as _;
use std::borrow::Cow;

/// The most bytes that are quoted of one value, with the text about its length.
const MAX_QUOTE: usize = 200;
/// The most bytes of the value itself in a quote.
const MAX_VALUE: usize = 160;

/// The text, or its beginning and its length where it is too long to be quoted.
pub(crate) fn shorten(text: &str) -> Cow<'_, str> {
    match text.len() > MAX_QUOTE {
        true => Cow::Owned([head(text, MAX_VALUE), &length(text)].concat()),
        false => Cow::Borrowed(text),
    }
}

/// The place of the quote at which the string ends that begins here.
fn end_of_string(string: &[u8]) -> usize {
    let mut is_escaped = false;
    let end = string.iter().position(|byte| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    });
    end.unwrap_or(string.len())
}

/// Cuts the text between quotes, in the form that `{:?}` writes.
pub(crate) fn shorten_quotes(message: &str) -> Cow<'_, str> {
    if message.len() <= 2 * MAX_QUOTE {
        return Cow::Borrowed(message);
    }
    let mut short = String::new();
    let mut rest = message;
    while let Some((before, string)) = rest.split_once('"') {
        let (content, after) = string
            .split_at_checked(end_of_string(string.as_bytes()))
            .unwrap_or((string, ""));
        short.push_str(before);
        short.push('"');
        if content.len() > MAX_QUOTE {
            short.push_str(head(content, MAX_VALUE));
            short.push_str(&length(content));
        } else {
            short.push_str(content);
        }
        rest = after;
        if let Some(after) = rest.strip_prefix('"') {
            short.push('"');
            rest = after;
        }
    }
    short.push_str(rest);
    Cow::Owned(short)
}

/// Whether a byte is in no name: of a header, an item of a list, or a name with its length.
fn breaks_name(byte: u8) -> bool {
    byte <= b' ' || b":=\"\\,;".contains(&byte)
}

/// Whether the value that `message` quotes is no more than a name: `x-key`, and not `x-key: secret`.
pub(crate) fn quotes_a_name(message: &str) -> bool {
    let Some(quote) = message.strip_prefix("invalid value: string \"") else {
        return false;
    };
    let end = end_of_string(quote.as_bytes());
    !quote.bytes().take(end).any(breaks_name)
}

/// `path` without a key that is more than a name, and what is below it.
pub(crate) fn without_line(path: &str) -> &str {
    let above = || {
        let line = path.bytes().position(breaks_name)?;
        let key = path.get(..line)?.rfind('.')?;
        path.get(..key)
    };
    above().unwrap_or(path)
}

/// Removes the value: `invalid type: string "secret", expected an object` without `"secret"`.
pub(crate) fn hide_value(message: &str) -> Cow<'_, str> {
    const KINDS: [&str; 6] = [
        "string",
        "integer",
        "floating point",
        "boolean",
        "character",
        "object",
    ];

    const EXPECTED: &[u8] = b", expected ";

    // The last place counts: a value can contain these words, and the expectation does not.
    let mut places = message.as_bytes().windows(EXPECTED.len());
    let expected = places.rposition(|text| text == EXPECTED);
    let expected = expected.and_then(|place| message.get(place..));
    let expected = expected.unwrap_or_default();
    if let Some((what @ ("unknown variant" | "unknown field"), _)) = message.split_once(" `") {
        return Cow::Owned([what, expected].concat());
    }
    let told = ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|what| {
            let found = message.strip_prefix(what)?;
            let kind = KINDS.iter().find(|kind| found.starts_with(**kind))?;
            Some([*what, *kind, expected].concat())
        });
    told.map_or(Cow::Borrowed(message), Cow::Owned)
}

/// One line of at most `limit` bytes. Characters that break a line are escaped, and the middle of a
/// text that is too long is left out.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    const CUT: &str = " … ";

    let mut line = String::new();
    for c in text.chars() {
        // Control characters, characters that some readers show as the end of a line, and
        // characters that change the order in which a line is shown.
        let breaks = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        // This cannot fail: a `String` takes every character.
        let _ = if breaks {
            write!(line, "{}", c.escape_default())
        } else {
            line.write_char(c)
        };
    }
    if line.len() <= limit {
        return line;
    }
    // The allowed values are at the end of the text, so the middle is cut.
    let half = (limit - CUT.len()) / 2;
    let mut tail = line.len() - half;
    while !line.is_char_boundary(tail) {
        tail += 1;
    }
    let tail = line.get(tail..).unwrap_or_default();
    format!("{}{CUT}{tail}", head(&line, half))
}

/// At most the first `limit` bytes of `text`.
fn head(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or(text)
}

fn length(text: &str) -> String {
    format!("… ({} bytes)", text.len())
}
