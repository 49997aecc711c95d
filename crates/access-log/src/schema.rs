//! The parts of the JSON Schema that cannot be derived.

use std::borrow::Cow;

use meshtrace_propagation::format::Format;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::config::{ResponseHeaderConfig, ShapeConfig, TracerConfig};

impl JsonSchema for TracerConfig {
    fn schema_name() -> Cow<'static, str> {
        "TracerConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let format = generator.subschema_for::<Format>();
        json_schema!({
            "description": "The formats that the proxy's tracer reads and writes: `none` for a \
                proxy without a tracer, one format, or several in the order in which it reads them.",
            "anyOf": [
                {"const": "none"},
                format.clone(),
                {"type": "array", "items": format},
            ],
        })
    }
}

impl JsonSchema for ShapeConfig {
    fn schema_name() -> Cow<'static, str> {
        "ShapeConfig".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An additional form of the ids.",
            "anyOf": [
                {"enum": ["datadog", "b3_64"]},
                {
                    "type": "object",
                    "properties": {
                        "gcp": {
                            "type": "object",
                            "properties": {"project": {"type": "string"}},
                            "required": ["project"],
                            "additionalProperties": false,
                        },
                    },
                    "required": ["gcp"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

impl JsonSchema for ResponseHeaderConfig {
    fn schema_name() -> Cow<'static, str> {
        "ResponseHeaderConfig".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The response header with the trace id, for the caller.",
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {
                        "name": {"type": ["string", "null"]},
                        "traceresponse": {"type": "boolean", "default": false},
                        "server_timing": {"type": "boolean", "default": false},
                    },
                    "additionalProperties": false,
                },
            ],
        })
    }
}
