//! The path of a place in a JSON text.

use core::fmt::Write as _;

/// One level of what is open at a place.
enum Level {
    /// An object, and the key that was read last.
    Object(Option<String>),
    /// A list, and the index of its current element.
    List(usize),
}

/// The path of what serde_json was at when it refused `json`: at this line, after so many of its bytes.
///
/// Found after the fact, because a deserializer that keeps the path is a second copy of every visitor
/// in the module.
pub(crate) fn at(json: &[u8], line: usize, column: usize) -> String {
    let lines = json.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines.take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    let read = json.get(..before.saturating_add(column)).unwrap_or(json);
    display(&levels(read))
}

fn levels(json: &[u8]) -> Vec<Level> {
    let mut levels = Vec::new();
    let mut rest = json;
    while let Some((byte, after)) = rest.split_first() {
        let (string, after) = match byte {
            b'"' => rest.split_at_checked(string(rest)).unwrap_or((rest, b"")),
            _ => (rest, after),
        };
        rest = after;
        match (byte, levels.last_mut()) {
            (b'{', _) => levels.push(Level::Object(None)),
            (b'[', _) => levels.push(Level::List(0)),
            (b'}' | b']', _) => _ = levels.pop(),
            (b',', Some(Level::Object(key))) => *key = None,
            (b',', Some(Level::List(index))) => *index += 1,
            (b'"', Some(Level::Object(key @ None))) => {
                *key = serde_json::from_slice(string).ok();
            }
            _ => {}
        }
    }
    levels
}

/// The length of the string that `json` begins with, with its quotes.
fn string(json: &[u8]) -> usize {
    let mut escaped = false;
    let end = json.iter().skip(1).position(|byte| {
        let is_end = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        is_end
    });
    end.map_or(json.len(), |end| end + 2)
}

fn display(levels: &[Level]) -> String {
    let mut path = String::new();
    for level in levels {
        match level {
            Level::Object(None) => {}
            Level::Object(Some(key)) if path.is_empty() => path.push_str(key),
            // Writing to a String cannot fail.
            Level::Object(Some(key)) => _ = write!(path, ".{key}"),
            Level::List(index) => _ = write!(path, "[{index}]"),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_the_keys_and_indices_of_all_that_is_open() {
        for (json, path) in [
            (r#""#, ""),
            (r#"{"#, ""),
            (r#"{"a""#, "a"),
            (r#"{"a": {"b": 1"#, "a.b"),
            (r#"{"a": {"b": 1}"#, "a"),
            (
                r#"{"a": {"b": 1}, "c": [{"d": 1}, {"e\"}": "x,]"#,
                "c[1].e\"}",
            ),
            (r#"{"a": [[1], ["#, "a[1][0]"),
            (r#"{"a": "{[\\", "b": ""#, "b"),
        ] {
            assert_eq!(at(json.as_bytes(), 1, json.len()), path, "{json}");
        }
    }

    #[test]
    fn a_place_is_a_line_and_a_column() {
        let json = b"{\"a\":\n [1,\n 2], \"b\": 3}";
        assert_eq!(at(json, 2, 4), "a[1]");
        assert_eq!(at(json, 3, 2), "a[1]");
        assert_eq!(at(json, 3, 8), "b");
        assert_eq!(at(json, 9, 9), "");
    }
}
