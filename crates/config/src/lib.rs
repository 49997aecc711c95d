//! Reads a plugin configuration. An error has the JSON path of the value, and what is wrong with
//! it.

#![forbid(unsafe_code)]

mod number;
mod quote;
mod words;

use core::fmt;
use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use words::list;

/// Why a plugin configuration is refused: a sentence for the person who wrote it.
///
/// It is written as `trace_context.extract[1]: unknown variant …`: the path, what was found, and
/// what is allowed. It is one line of at most 1,800 bytes, whatever the configuration. It quotes at
/// most 200 bytes of a value, and no byte of a header's value.
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

    /// A refusal of the text `found` at `path`; `expected` begins with "expected".
    #[must_use]
    #[inline(never)]
    pub fn invalid_text(path: &str, found: &str, expected: &dyn fmt::Display) -> Self {
        Self::new(path, format!("invalid value: string {found:?}, {expected}"))
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
        let path = quote::one_line(&self.path, MAX_PATH);
        let message = match hides_values(&self.path) {
            true => quote::hide_value(&self.message),
            false => Cow::Borrowed(self.message.as_str()),
        };
        let message = quote::one_line(&quote::shorten_quotes(&message), MAX_MESSAGE);
        write!(f, "{path}: {message}")
    }
}

impl core::error::Error for ConfigError {}

/// The most bytes of the path in an error.
const MAX_PATH: usize = 400;
/// The most bytes of the text about the value in an error.
const MAX_MESSAGE: usize = 1_390;

/// Whether the value at `path` may be a secret. A header's value often is one, and a secret may
/// have been written where the name of its variable belongs.
fn hides_values(path: &str) -> bool {
    let mut keys = path.split(['.', '[']);
    let is_name = matches!(path.rsplit('.').next(), Some("header" | "name"));
    // The path or the host of a URL sometimes contains a key or a password.
    let below_filter = path.strip_prefix("mesh_tracing.").unwrap_or(path);
    let is_report = matches!(below_filter, "report" | "report.path" | "report.authority");
    is_report || !is_name && keys.any(|key| matches!(key, "headers" | "force" | "hmac_sha256"))
}

/// Looks up a variable of the VM's environment; `None` when it is not set.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<Vec<u8>>;

/// How a filter changes request headers.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RequestHeaders {
    /// The filter edits the headers. Envoy then chooses the request's route again.
    #[default]
    Edit,
    /// The filter edits no header. It sets filter state `wasm.<header>` to the value that should
    /// leave, and the route configuration writes the header from it.
    FilterState,
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

    // serde would read a list as the fields of a struct, in their order.
    if json.trim_ascii_start().starts_with(b"[") {
        return Err(ConfigError::new(
            "",
            "not a JSON object, expected one such as {}",
        ));
    }

    /// The most such integers. Each one costs one reading of the whole configuration.
    const MAX_INTEGERS: usize = 64;

    let mut json = Cow::Borrowed(json);
    let mut integers = 0;
    let refusal = loop {
        match parse(&json) {
            Ok(value) => return Ok(value),
            // 5000.0 and 1e3 are integers too (JSON has one kind of number), and some tools write
            // integers in this form.
            Err(refusal)
                if integers < MAX_INTEGERS
                    && refusal.message.starts_with("invalid type: floating point") =>
            {
                integers += 1;
                match number::as_integer(&json, refusal.position) {
                    Some(integer) => json = Cow::Owned(integer),
                    None => break refusal,
                }
            }
            Err(refusal) => break refusal,
        }
    };
    match quote::shorten_strings(&json).map(|short| parse::<T>(&short)) {
        // The same error, with values that are short enough to be quoted.
        Some(Err(short)) if refusal.is_data => Err(short.at(refusal.position)),
        _ => Err(refusal.at(refusal.position)),
    }
}

/// Why a text is refused, and at which position.
struct Refusal {
    path: String,
    message: String,
    is_data: bool,
    /// The line and the column, from 1; 0 where there is no position.
    position: (usize, usize),
}

impl Refusal {
    fn at(&self, position: (usize, usize)) -> ConfigError {
        let (line, column) = self.position;
        let own = format!(" at line {line} column {column}");
        let message = self.message.strip_suffix(&own).unwrap_or(&self.message);
        if !self.is_data {
            return ConfigError::new("", not_json(&self.message));
        }
        let (line, column) = position;
        let message = match line {
            0 => message.to_owned(),
            _ => format!("{message} at line {line} column {column}"),
        };
        ConfigError::new(&*self.path, message)
    }
}

#[inline(never)]
fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Refusal> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let refusal = |path: String, error: &serde_json::Error| Refusal {
        path: if path == "." { String::new() } else { path },
        message: error.to_string(),
        is_data: error.is_data(),
        position: (error.line(), error.column()),
    };
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| refusal(error.path().to_string(), error.inner()))?;
    deserializer
        .end()
        .map_err(|error| refusal(String::new(), &error))?;
    Ok(value)
}

fn not_json(error: &str) -> String {
    format!(
        "not JSON ({error}); expected a JSON object in a google.protobuf.StringValue \
         (a google.protobuf.Struct does not arrive as JSON)"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Example {
        list: Vec<u8>,
        inner: Inner,
        kind: Kind,
        map: BTreeMap<String, u8>,
        headers: BTreeMap<String, String>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        #[default]
        One,
        Two,
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

    /// Each is refused in one line that can be read.
    #[test]
    fn a_refusal_is_short_whatever_the_value() {
        let long = "é\"\\`, expected ".repeat(100_000);
        let quoted = serde_json::to_string(&long).unwrap();
        let deep = format!("{}1{}", r#"{"inner": "#.repeat(100), "}".repeat(100));
        let many = format!(
            r#"{{"inner": {{{}"on": 1}}}}"#,
            r#""on": true, "#.repeat(10_000)
        );
        for json in [
            format!(r#"{{"list": [{quoted}]}}"#),
            format!(r#"{{"list": {quoted}}}"#),
            format!(r#"{{"inner": {quoted}}}"#),
            format!(r#"{{"inner": {{{quoted}: true}}}}"#),
            format!(r#"{{{quoted}: {{{quoted}: true}}}}"#),
            format!(r#"{{"kind": {quoted}}}"#),
            format!(r#"{{"map": {{{quoted}: {quoted}}}}}"#),
            format!(r#"{{"list": [{}]}}"#, "9".repeat(1_000_000)),
            format!(r#"{{"list": [{}]}}"#, "1,".repeat(1_000_000)),
            format!(r#"{{"list": {}}}"#, "[".repeat(100_000)),
            format!(r#"{{"list": {quoted}"#),
            quoted.clone(),
            deep,
            many,
        ] {
            let refusal = refusal(&json);
            assert!(refusal.len() <= 1_800, "{} bytes: {refusal}", refusal.len());
            assert!(!refusal.chars().any(char::is_control), "{refusal}");
            assert!(refusal.matches('é').count() < 400, "{refusal}");
            let says_why = ["expected", "duplicate field `on`"]
                .iter()
                .any(|why| refusal.contains(why));
            assert!(says_why, "{refusal}");
        }
    }

    #[test]
    fn a_number_without_a_fraction_is_an_integer_however_it_is_written() {
        let json = "{\n\"list\": [1.0, 1e2, 20e-1,\n 3, 0.5e1, -0.0]}";
        let example = read::<Example>(json.as_bytes()).unwrap();
        assert_eq!(example.list, [1, 100, 2, 3, 5, 0]);
        for number in ["1.5", "1e3", "-1.0", "1e400", "1e-1"] {
            let refusal = refusal(&format!(r#"{{"list": [2.0, {number}]}}"#));
            let is_told = refusal.starts_with("plugin.list[1]: invalid") || number == "1e400";
            assert!(is_told, "{refusal}");
        }
    }

    #[test]
    fn a_long_value_is_cut_at_a_character_and_its_length_told() {
        let key = "é".repeat(5_000_000);
        let refusal = refusal(&format!("{{\n\"inner\": {{\"{key}\": 1}}}}"));
        let (path, message) = refusal.split_once(": ").unwrap();
        let shown = "é".repeat(80);
        assert_eq!(path, format!("plugin.inner.{shown}… (10000000 bytes)"));
        let expected =
            format!("unknown field `{shown}… (10000000 bytes)`, expected `on` at line 2");
        assert!(message.starts_with(&expected), "{message}");
    }

    #[test]
    fn a_refusal_does_not_tell_a_header_s_value() {
        for (json, expected) in [
            (
                r#"{"headers": "authorization: secret"}"#,
                "plugin.headers: invalid type: string, expected a map",
            ),
            (
                r#"{"headers": {"authorization": ["secret"]}}"#,
                "plugin.headers.authorization: invalid type: sequence, expected a string",
            ),
            (
                r#"{"headers": {"x-key": 5555}}"#,
                "plugin.headers.x-key: invalid type: integer, expected a string",
            ),
        ] {
            let refusal = refusal(json);
            assert!(refusal.starts_with(expected), "{refusal}");
            assert!(
                !refusal.contains("secret") && !refusal.contains("5555"),
                "{refusal}"
            );
        }
        for path in ["report", "report.path", "mesh_tracing.report.authority"] {
            let own = ConfigError::new(path, "invalid type: string \"secret\", expected a host");
            assert_eq!(
                own.to_string(),
                format!("{path}: invalid type: string, expected a host")
            );
        }
        let bare = ConfigError::new("force", "invalid value: string \"secret\"");
        assert_eq!(bare.to_string(), "force: invalid value: string");
        let variant = ConfigError::new("force", "unknown variant `secret`, expected `a`");
        assert_eq!(variant.to_string(), "force: unknown variant, expected `a`");
        let own = ConfigError::new(
            "report.headers.a",
            "invalid value: string \"secret\", expected text",
        );
        assert_eq!(
            own.to_string(),
            "report.headers.a: invalid value: string, expected text"
        );
    }

    /// A key may look like the end of a line and the begin of another one.
    #[test]
    fn a_refusal_forges_no_line() {
        let refusal = refusal("{\"a\\r\\n\\u0085\\u2028\\u202e[error] b\": 1}");
        let expected = r"plugin.a\r\n\u{85}\u{2028}\u{202e}[error] b: unknown field `a\r\n\u{85}\u{2028}\u{202e}[error] b`, expected";
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
