//! What a person writes: a configuration as YAML or JSON, a header line, a file of cases.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::case::Case;

/// A configuration as JSON. A text that is JSON stays to the letter, so that a refusal tells its
/// lines. A text that is neither YAML nor JSON stays too, and whoever reads it refuses it.
#[must_use]
pub fn json_of(text: Vec<u8>) -> Vec<u8> {
    let is_json = serde_json::from_slice::<IgnoredAny>(&text).is_ok();
    if is_json || text.trim_ascii_start().starts_with(b"{") {
        return text;
    }
    let yaml = str::from_utf8(&text)
        .ok()
        .map(serde_saphyr::from_str::<Value>);
    match yaml {
        Some(Ok(value @ Value::Object(_))) => value.to_string().into_bytes(),
        _ => text,
    }
}

/// A header line, `NAME: VALUE`, without the space around both.
///
/// # Errors
/// What is expected instead.
pub fn header_line(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    let name = name.trim();
    if name.is_empty() {
        return Err(
            "expected NAME: VALUE; --method, --path and --authority set what begins with a \
                    colon"
                .to_owned(),
        );
    }
    Ok((name.to_owned(), value.trim().to_owned()))
}

/// The requests of a file, and the filter that they are for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// The name of the filter. It may be absent where the configuration tells it.
    #[serde(default)]
    pub filter: Option<String>,
    /// The configuration itself, or the path of its file, from the folder of this one.
    #[serde(default)]
    pub config: Value,
    /// The environment of the VM.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The requests, and what is expected of each.
    pub cases: Vec<Case>,
}

impl Cases {
    /// Reads a file of cases, as YAML or JSON.
    ///
    /// # Errors
    /// What is wrong, with the line and the column where the file is JSON.
    pub fn read(text: Vec<u8>) -> Result<Self, String> {
        let json = json_of(text.clone());
        serde_json::from_slice(&json).map_err(|error| {
            let reason = error.to_string();
            match json == text {
                true => reason,
                false => placeless(&reason).to_owned(),
            }
        })
    }
}

/// A refusal without line and column, which are those of a text that the user does not have.
#[must_use]
pub fn placeless(reason: &str) -> &str {
    let parts = reason.rsplit_once(" at line ");
    parts.map_or(reason, |(text, _)| text)
}
