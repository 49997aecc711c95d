//! The values of attributes before they were transformed.
//!
//! The pipeline tells the final values alone. So the same filter runs again with a configuration
//! that transforms nothing, and one more time with the attributes in filter state, where the
//! explanation finds them.

use serde_json::{Map, Value};

use crate::explanation::{Attribute, Explanation, LeftOut};

/// Which parts of an attribute a configuration for another run keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// All of it, so that the values are the final ones.
    All,
    /// The source alone, so that the values are those of the request.
    Source,
}

/// The configuration of `filter` with its attributes in filter state. `None` where it has none.
pub(crate) fn shown(filter: &str, json: &[u8], kept: Kept) -> Option<Vec<u8>> {
    let mut config: Value = match json.trim_ascii() {
        // The defaults of span_attributes have attributes, and those of mesh_tracing have no stage.
        b"" => Value::Object(Map::new()),
        json => serde_json::from_slice(json).ok()?,
    };
    let stage = match filter {
        "span_attributes" => Some(&mut config),
        "mesh_tracing" => config.get_mut("span_attributes"),
        _ => None,
    }?;
    let stage = stage.as_object_mut()?;
    stage.remove("emit");
    let attributes = stage.get_mut("attributes").and_then(Value::as_array_mut);
    for attribute in attributes.into_iter().flatten() {
        if let (Some(attribute), Kept::Source) = (attribute.as_object_mut(), kept) {
            for key in ["transform", "default", "max_length"] {
                attribute.remove(key);
            }
        }
    }
    serde_json::to_vec(&config).ok()
}

/// Puts the values of the other runs into `explanation`.
pub(crate) fn add(
    explanation: &mut Explanation,
    finals: Option<Explanation>,
    sources: Option<Explanation>,
) {
    if let Some(finals) = finals {
        explanation.attributes = finals.attributes;
    }
    let Some(sources) = sources else {
        return;
    };
    for source in sources.attributes {
        let mut attributes = explanation.attributes.iter_mut();
        match attributes.find(|attribute| attribute.key == source.key) {
            Some(attribute) => attribute.raw = Some(source.value),
            None => explanation.left_out.push(LeftOut {
                key: source.key,
                raw: source.value,
            }),
        }
    }
}

impl Attribute {
    /// An attribute of which only the final value is known yet.
    pub(crate) fn new(key: &str, value: &str) -> Self {
        Self {
            key: key.to_owned(),
            raw: None,
            value: value.to_owned(),
        }
    }
}
