//! A request and what is expected of it.

use std::collections::BTreeMap;
use std::fmt;

use meshtrace_propagation::Direction;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::input::{header, peer};
use crate::{Explanation, SentRequest};

/// A request and what is expected of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What the case shows.
    pub name: String,
    /// The request.
    #[serde(default)]
    request: CaseRequest,
    /// What is expected; what it does not name may be anything.
    pub expect: Expected,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CaseRequest {
    method: Option<String>,
    path: Option<String>,
    authority: Option<String>,
    headers: BTreeMap<String, Lines>,
    peer: Option<String>,
    #[serde(with = "NamedDirection")]
    direction: Direction,
    cluster: Option<String>,
    route: Option<String>,
    properties: BTreeMap<String, String>,
}

/// The lines of a header: a text, or a list of texts.
#[derive(Clone, Debug)]
struct Lines(Vec<String>);

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(OfLines)
    }
}

struct OfLines;

/// A number is refused: YAML forgets how it was written, such as the zeros that an id begins with.
impl<'de> Visitor<'de> for OfLines {
    type Value = Lines;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header's value in quotes, or a list of them")
    }

    fn visit_str<E>(self, line: &str) -> Result<Lines, E> {
        Ok(Lines(vec![line.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Lines, A::Error> {
        let mut lines = Vec::new();
        while let Some(Lines(line)) = list.next_element()? {
            lines.extend(line);
        }
        Ok(Lines(lines))
    }
}

/// What is expected of a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expected {
    /// The request headers as they leave; null for one that must not.
    pub headers: BTreeMap<String, Option<String>>,
    /// The filter state that is set, with or without `wasm.`; null for one that must not be.
    pub filter_state: BTreeMap<String, Option<String>>,
    /// Whether the trace is recorded.
    pub sampled: Option<bool>,
    /// The rule that the request fits; null where none may be looked for.
    #[serde(deserialize_with = "even_null")]
    pub rule: Option<Option<String>>,
}

/// The names of a [`Direction`], as in a configuration.
#[derive(Deserialize)]
#[serde(remote = "Direction", rename_all = "lowercase")]
enum NamedDirection {
    #[serde(alias = "UNSPECIFIED")]
    Unspecified,
    #[serde(alias = "INBOUND")]
    Inbound,
    #[serde(alias = "OUTBOUND")]
    Outbound,
}

/// The name of a rule, or its place in the list, which is a number.
fn even_null<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Option<String>>, D::Error> {
    match Value::deserialize(input)? {
        Value::Null => Ok(Some(None)),
        Value::String(name) => Ok(Some(Some(name))),
        Value::Number(place) if place.is_u64() => Ok(Some(Some(place.to_string()))),
        _ => Err(D::Error::custom(
            "expected a rule's name, its place in the list, or null",
        )),
    }
}

/// An expectation that was not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What it is about, such as `headers.b3`.
    pub key: String,
    /// What is expected; `None` for nothing.
    pub expected: Option<String>,
    /// What was found; `None` for nothing.
    pub found: Option<String>,
}

impl Case {
    /// Refuses what no request has.
    pub(crate) fn refusal(&self) -> Result<(), String> {
        for (name, Lines(lines)) in &self.request.headers {
            for line in lines {
                header(name, line)?;
            }
        }
        match &self.request.peer {
            Some(address) => peer(address).map(|_| ()),
            None => Ok(()),
        }
    }

    /// The request, to a filter whose VM has this environment.
    #[must_use]
    pub fn request(&self, environment: &BTreeMap<String, String>) -> SentRequest {
        let case = self.request.clone();
        let or = |text: Option<String>, default: &str| text.unwrap_or_else(|| default.to_owned());
        let mut sent = SentRequest::new(
            &or(case.method, "GET"),
            &or(case.path, "/"),
            &or(case.authority, "localhost"),
        );
        for (name, lines) in &case.headers {
            lines.0.iter().for_each(|value| sent.add(name, value));
        }
        SentRequest {
            headers: sent.headers,
            peer: case.peer,
            direction: case.direction,
            cluster: case.cluster,
            route: case.route,
            properties: case.properties,
            environment: environment.clone(),
        }
    }
}

impl Expected {
    /// Whether everything would do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let has_texts = !self.headers.is_empty() || !self.filter_state.is_empty();
        !has_texts && self.sampled.is_none() && self.rule.is_none()
    }

    /// Where `found` is something else, in the order of the keys.
    #[must_use]
    pub fn differences(&self, found: &Explanation) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut compare = |key: String, expected: Option<String>, found: Option<String>| {
            if expected != found {
                differences.push(Difference {
                    key,
                    expected,
                    found,
                });
            }
        };
        for (name, expected) in &self.headers {
            let name = name.to_ascii_lowercase();
            let lines = found
                .left
                .iter()
                .filter(|(candidate, _)| *candidate == name);
            let values: Vec<_> = lines.map(|(_, value)| value.as_str()).collect();
            let value = (!values.is_empty()).then(|| values.join(", "));
            compare(format!("headers.{name}"), expected.clone(), value);
        }
        for (key, expected) in &self.filter_state {
            let bare = key.strip_prefix("wasm.").unwrap_or(key);
            let mut states = found.filter_state.iter();
            let state = states.find(|state| state.key.strip_prefix("wasm.") == Some(bare));
            let value = state.map(|state| state.value.clone());
            compare(format!("filter_state.{bare}"), expected.clone(), value);
        }
        if let Some(expected) = self.sampled {
            let value = found.sampled.map(|sampled| sampled.to_string());
            compare("sampled".to_owned(), Some(expected.to_string()), value);
        }
        if let Some(expected) = &self.rule {
            let value = found.rule.as_ref().map(|rule| rule.name.clone());
            compare("rule".to_owned(), expected.clone(), value);
        }
        differences
    }
}
