//! The parts of the JSON Schema that cannot be derived.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::config::ResourceValue;

impl JsonSchema for ResourceValue {
    fn schema_name() -> Cow<'static, str> {
        "ResourceValue".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The value of a resource attribute.",
            "type": ["string", "number", "boolean"],
        })
    }
}
