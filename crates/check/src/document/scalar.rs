//! The scalars of YAML 1.2's core schema.

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Without quotes: text, number, boolean or null.
    Plain,
    /// In single quotes.
    Single,
    /// In double quotes, with escapes.
    Double,
    /// A block in which every line counts (`|`).
    Literal,
    /// A block whose lines are joined (`>`).
    Folded,
}

/// What a plain scalar is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Plain {
    Null,
    Bool(bool),
    Number(f64),
    Text,
}

/// The kind of `text` where it has no quotes.
pub(crate) fn plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        _ => {}
    }
    let digits = text.trim_start_matches(['-', '+']);
    let is_number = digits
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'-' | b'+'))
        && digits.bytes().any(|byte| byte.is_ascii_digit())
        && !digits.starts_with(['e', 'E']);
    match text.parse::<f64>() {
        Ok(number) if is_number && number.is_finite() => Plain::Number(number),
        _ => Plain::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_are_those_of_the_core_schema() {
        for (text, expected) in [
            ("~", Plain::Null),
            ("true", Plain::Bool(true)),
            ("-1.5e3", Plain::Number(-1500.0)),
            ("10", Plain::Number(10.0)),
            ("yes", Plain::Text),
            ("1.2.3", Plain::Text),
            ("inf", Plain::Text),
            ("e1", Plain::Text),
            ("b3", Plain::Text),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
    }
}
