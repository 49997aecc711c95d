//! The parts of the JSON Schema that cannot be derived.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::bucket::MAX_RATE;
use crate::config::{HeaderConfig, SampleConfig};

impl JsonSchema for SampleConfig {
    fn schema_name() -> Cow<'static, str> {
        "SampleConfig".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What to do with a request.",
            "anyOf": [
                {"enum": ["always", "never", "unchanged"]},
                {
                    "type": "object",
                    "properties": {"ratio": {"type": "number", "minimum": 0, "maximum": 1}},
                    "required": ["ratio"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": {
                        "per_second": {"type": "number", "minimum": 0, "maximum": MAX_RATE},
                    },
                    "required": ["per_second"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

impl JsonSchema for HeaderConfig {
    fn schema_name() -> Cow<'static, str> {
        "HeaderConfig".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What is asked of one header; the first line of that name counts.",
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "In any case."},
                "exact": {"type": "string", "description": "It has this value."},
                "prefix": {"type": "string", "description": "Its value begins with this."},
                "present": {"const": true, "description": "It is there."},
            },
            "required": ["name"],
            "oneOf": [
                {"required": ["exact"]},
                {"required": ["prefix"]},
                {"required": ["present"]},
            ],
            "additionalProperties": false,
        })
    }
}
