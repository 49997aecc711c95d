//! What a command prints: YAML with comments before it.

use std::fmt::Display;
use std::io::{self, Write as _};

use serde_json::Value;

/// The width of comments, in characters.
const WIDTH: usize = 100;

/// Prints; that nobody reads to the end is no error.
pub(crate) fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// A document, below `comments`. A text of several lines is a block, and no line is folded.
pub(crate) fn yaml(value: &Value, comments: &[String]) -> Result<String, String> {
    let mut options = serde_saphyr::SerializerOptions::default();
    options.folded_wrap_chars = usize::MAX;
    let mut text: String = comments.iter().map(|text| comment(text)).collect();
    serde_saphyr::to_fmt_writer_with_options(&mut text, value, options)
        .map_err(|error| format!("the result cannot be written as YAML: {error}"))?;
    Ok(text)
}

/// The sentences of limits, for the end of a document.
pub(crate) fn limits(limits: &[impl Display]) -> String {
    if limits.is_empty() {
        return String::new();
    }
    let lines = limits.iter().map(|limit| comment(&format!("- {limit}")));
    comment("Limits:") + &lines.collect::<String>()
}

fn comment(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + word.chars().count() >= WIDTH {
            lines.push_str(&line);
            lines.push('\n');
            line = String::from("#  ");
        }
        line.push(' ');
        line.push_str(word);
    }
    lines.push_str(&line);
    lines.push('\n');
    lines
}

/// The text without line breaks and other control characters, which a terminal would follow.
pub(crate) fn in_one_line(text: &str) -> String {
    let shown = |character: char| match character.is_control() {
        true => char::REPLACEMENT_CHARACTER,
        false => character,
    };
    text.chars().map(shown).collect()
}
