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
            "description": "A condition on one header. Of a repeated header the first line counts.",
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "The name of the header, case-insensitive."},
                "exact": {"type": "string", "description": "The value is equal to this text."},
                "prefix": {"type": "string", "description": "The value begins with this text."},
                "present": {"const": true, "description": "The request has the header."},
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
