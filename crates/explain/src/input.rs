//! What a person writes: a configuration as YAML or JSON, a header line, a file of cases.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::case::Case;

/// A configuration as JSON. A text that is JSON stays to the letter, so that a refusal tells its
/// lines. A text that is neither YAML nor JSON stays too, and whoever reads it refuses it.
#[must_use]
pub fn json_of(text: Vec<u8>) -> Vec<u8> {
    if serde_json::from_slice::<IgnoredAny>(&text).is_ok() {
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
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() {
        return Err(
            "expected NAME: VALUE; --method, --path and --authority set what begins with a \
                    colon"
                .to_owned(),
        );
    }
    header(name, value)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Refuses what no request has: Envoy refuses it before any filter runs.
pub(crate) fn header(name: &str, value: &str) -> Result<(), String> {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_of_token) {
        return Err(format!(
            "expected NAME: VALUE; {name:?} is no name of a header"
        ));
    }
    if value.contains(['\r', '\n', '\0']) {
        return Err(format!(
            "expected NAME: VALUE; the value of {name} has a line break or a zero byte"
        ));
    }
    Ok(())
}

/// The address of a peer, with or without a port.
///
/// # Errors
/// What is expected instead.
pub fn peer(text: &str) -> Result<String, String> {
    let is_address = text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok();
    match is_address {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "expected an IP address, with or without a port, such as 10.0.0.7, and found {text:?}"
        )),
    }
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
        let cases: Self = serde_json::from_slice(&json).map_err(|error| {
            let in_yaml = str::from_utf8(&text)
                .ok()
                .and_then(|text| serde_saphyr::from_str::<Self>(text).err());
            let in_json = serde_json::from_slice::<IgnoredAny>(&text).is_ok();
            match in_yaml.filter(|_| !in_json) {
                Some(error) => first_line(&error.to_string()).to_owned(),
                None => error.to_string(),
            }
        })?;
        for case in &cases.cases {
            case.refusal()
                .map_err(|reason| format!("case {:?}: {reason}", case.name))?;
        }
        Ok(cases)
    }
}

/// The rest of the parser's message shows the lines around the place.
fn first_line(message: &str) -> &str {
    let line = message.lines().next().unwrap_or(message);
    line.strip_prefix("error: ").unwrap_or(line)
}

/// A refusal without line and column, which are those of a text that the user does not have.
#[must_use]
pub fn placeless(reason: &str) -> &str {
    let parts = reason.rsplit_once(" at line ");
    parts.map_or(reason, |(text, _)| text)
}
