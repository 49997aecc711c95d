//! The parts of the JSON Schema that cannot be derived.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::config::{ClaimConfig, JwtClaimConfig, SourceConfig};

impl JsonSchema for ClaimConfig {
    fn schema_name() -> Cow<'static, str> {
        "ClaimConfig".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
        ]})
    }
}

impl JsonSchema for SourceConfig {
    fn schema_name() -> Cow<'static, str> {
        "SourceConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let text = || json_schema!({"type": "string", "minLength": 1});
        let source = |name: &str, what: &str, value: Schema| {
            json_schema!({
                "type": "object",
                "description": what,
                "properties": {name: value},
                "required": [name],
                "additionalProperties": false,
            })
        };
        let literal = json_schema!({"type": "string"});
        let property = json_schema!({
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "minItems": 1,
        });
        let claim = generator.subschema_for::<JwtClaimConfig>();
        json_schema!({
            "description": "Where a value comes from: one source.",
            "oneOf": [
                source("header", "The first line of a request header.", text()),
                source("response_header", "The first line of a response header.", text()),
                source("cookie", "A cookie of the request.", text()),
                source("query", "A parameter of the query, percent-decoded.", text()),
                {
                    "type": "object",
                    "description": "A segment of the path, percent-decoded.",
                    "properties": {
                        "path": {
                            "type": "string",
                            "pattern": "^/",
                            "description": "A template such as /api/users/{id}; * is any segment, ** at the end any number.",
                        },
                        "capture": {
                            "type": "string",
                            "pattern": "^[A-Za-z0-9_]+$",
                            "description": "The name of the segment to take.",
                        },
                    },
                    "required": ["path", "capture"],
                    "additionalProperties": false,
                },
                source("baggage", "A member of the baggage header, percent-decoded.", text()),
                source("jwt_claim", "A claim of a JSON Web Token, decoded and not verified.", claim),
                source("property", "A property of the host, such as [\"xds\", \"cluster_name\"].", property),
                source("env", "A variable of the VM's environment, read at start.", text()),
                source("literal", "Always this.", literal),
            ],
        })
    }
}
