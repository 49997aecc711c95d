//! The parts of the JSON Schema that cannot be derived.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::bucket::MAX_RATE;
use crate::config::{ClusterConfig, HeaderConfig, SampleConfig};

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

impl JsonSchema for ClusterConfig {
    fn schema_name() -> Cow<'static, str> {
        "ClusterConfig".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        let object = |key: &str, description: &str| {
            json_schema!({
                "type": "object",
                "properties": {key: {"type": "string", "minLength": 1, "description": description}},
                "required": [key],
                "additionalProperties": false,
            })
        };
        json_schema!({
            "description": "A condition on the name of Envoy's cluster.",
            "anyOf": [
                {"type": "string", "minLength": 1, "description": "The name is equal to this text."},
                object("exact", "The name is equal to this text."),
                object("prefix", "The name begins with this text."),
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
