//! The parts of the JSON Schema that cannot be derived.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::config::{IncomingConfig, IncomingMode, InjectConfig, WhenConfig};
use crate::format::{B3TraceIdBits, Format};

impl JsonSchema for B3TraceIdBits {
    fn schema_name() -> Cow<'static, str> {
        "B3TraceIdBits".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The width of trace ids in B3. At 64 the left half is lost.",
            "enum": [128, 64],
        })
    }
}

impl JsonSchema for InjectConfig {
    fn schema_name() -> Cow<'static, str> {
        "InjectConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What to write: these formats, or the one that came in.",
            "anyOf": [
                {"type": "array", "items": generator.subschema_for::<Format>()},
                {"const": "preserve"},
            ],
        })
    }
}

impl JsonSchema for IncomingConfig {
    fn schema_name() -> Cow<'static, str> {
        "IncomingConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mode = generator.subschema_for::<IncomingMode>();
        json_schema!({
            "description": "Whether to believe the caller's context.",
            "anyOf": [
                mode.clone(),
                {
                    "type": "object",
                    "properties": {
                        "mode": mode,
                        "when": generator.subschema_for::<WhenConfig>(),
                    },
                    "required": ["mode"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}
