//! Reads a plugin configuration and says, with its JSON path, what is wrong with it.

#![forbid(unsafe_code)]

mod secret;

use core::fmt::{self, Write as _};

use serde::de::DeserializeOwned;

/// Why a plugin configuration is refused: a sentence for the person who wrote it.
///
/// Displays as `trace_context.extract[1]: unknown variant …`: the path, what was found, and what is
/// allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    path: String,
    message: String,
}

impl ConfigError {
    /// A refusal of the value at `path`, relative to the configuration's top (`incoming.when`).
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }

    /// The same refusal of a value that stands below `parent`.
    #[must_use]
    pub fn below(self, parent: &str) -> Self {
        let path = match self.path.as_str() {
            "" => parent.to_owned(),
            path if path.starts_with('[') => format!("{parent}{path}"),
            path => format!("{parent}.{path}"),
        };
        Self { path, ..self }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(OneLine(f), "{}: {}", self.path, self.message)
    }
}

impl core::error::Error for ConfigError {}

/// Escapes control characters: a key of the configuration's may hold any, and a log line is one line.
struct OneLine<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| {
            if c.is_control() {
                write!(self.0, "{}", c.escape_default())
            } else {
                self.0.write_char(c)
            }
        })
    }
}

/// Reads `json` as a `T`; an empty configuration is `T`'s default.
///
/// # Errors
/// When `json` is not JSON or not a `T`, with the path of the offending value.
#[inline(never)]
pub fn read<T: DeserializeOwned + Default>(json: &[u8]) -> Result<T, ConfigError> {
    if json.trim_ascii().is_empty() {
        return Ok(T::default());
    }

    // serde would read a list as the fields of a struct in their order.
    if json.trim_ascii_start().starts_with(b"[") {
        return Err(ConfigError::new(
            "",
            "not a JSON object, expected one such as {}",
        ));
    }

    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        refusal(path, &error.into_inner())
    })?;
    deserializer.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

/// Not a part of `read`, of which there is one for every filter.
#[inline(never)]
fn refusal(path: String, error: &serde_json::Error) -> ConfigError {
    if !error.is_data() {
        return not_json(error);
    }
    let path = if path == "." { String::new() } else { path };
    let message = error.to_string();
    let message = match secret::is_secret(&path) {
        true => secret::without_value(&message),
        false => message,
    };
    ConfigError::new(path, message)
}

fn not_json(error: &serde_json::Error) -> ConfigError {
    ConfigError::new(
        "",
        format!(
            "not JSON ({error}); expected a JSON object in a google.protobuf.StringValue \
             (a google.protobuf.Struct does not arrive as JSON)"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Example {
        list: Vec<u8>,
        inner: Inner,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        on: bool,
    }

    fn refusal(json: &str) -> String {
        read::<Example>(json.as_bytes())
            .unwrap_err()
            .below("plugin")
            .to_string()
    }

    #[test]
    fn an_empty_configuration_is_the_default() {
        for json in ["", " \n", "{}"] {
            assert_eq!(read::<Example>(json.as_bytes()), Ok(Example::default()));
        }
    }

    #[test]
    fn a_refusal_names_the_path_what_was_found_and_what_is_allowed() {
        for (json, expected) in [
            (
                r#"{"list": [1, "two"]}"#,
                r#"plugin.list[1]: invalid type: string "two", expected u8 at line 1 column 18"#,
            ),
            (
                r#"{"inner": {"off": true}}"#,
                "plugin.inner.off: unknown field `off`, expected `on` at line 1 column 16",
            ),
            ("[]", "plugin: not a JSON object, expected one such as {}"),
        ] {
            let refusal = refusal(json);
            assert!(refusal.starts_with(expected), "{refusal}");
        }
    }

    #[test]
    fn a_refusal_is_one_line_whatever_the_keys() {
        let refusal = refusal(r#"{"inner": {"a\nb\u0000": true}}"#);
        let expected = r"plugin.inner.a\nb\u{0}: unknown field `a\nb\u{0}`, expected `on`";
        assert!(refusal.starts_with(expected), "{refusal}");
    }

    #[test]
    fn what_is_not_json_is_said_to_be_so() {
        for json in ["{", "extract: [b3]", "{} {}", "\u{1}\u{2}"] {
            let refusal = refusal(json);
            assert!(refusal.starts_with("plugin: not JSON ("), "{refusal}");
        }
    }
}
