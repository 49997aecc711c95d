//! `span_attributes`: the custom tags that put its attributes on spans, and the filter itself.

mod limit;

use meshtrace_attributes::{
    AttributeConfig, Attributes, Phase, SourceConfig, SpanAttributesConfig, TransformConfig,
    header_name,
};
use meshtrace_config::{ConfigError, RequestHeaders};
use serde_json::{Map, Value, json};

pub use limit::TagLimit;

use crate::{EnvoyVersion, IstioVersion, cel};

/// The namespace of the dynamic metadata that is used where no filter state can be.
const METADATA: &str = "meshtrace.span_attributes";

/// The parts for an HTTP connection manager of Envoy.
#[derive(Clone, Debug)]
pub struct EnvoyTags {
    /// The value of `tracing.custom_tags`. The user sets the provider.
    pub custom_tags: Vec<Value>,
    /// Entries of `http_filters`. They stand before the router.
    pub http_filters: Vec<Value>,
    /// The limits that a user must know.
    pub limits: Vec<TagLimit>,
}

/// The resources for an Istio mesh.
#[derive(Clone, Debug)]
pub struct IstioTags {
    /// The WasmPlugin, for inbound requests of sidecars.
    pub wasm_plugin: Value,
    /// The Telemetry with the tags. The user sets the provider.
    pub telemetry: Value,
    /// The limits that a user must know.
    pub limits: Vec<TagLimit>,
}

/// The names for Istio's manifests, and the place of the module.
#[derive(Clone, Debug)]
pub struct IstioNames {
    /// The name of both resources.
    pub name: String,
    /// The namespace of both resources. Without it they are for the namespace to which they are
    /// applied.
    pub namespace: Option<String>,
    /// The URL of the module: `oci://…`, `https://…` or `file://…`.
    pub url: String,
}

/// Renders the parts of an HTTP connection manager of Envoy for the `span_attributes` configuration
/// `json`. `module` is the path of the module for Envoy.
///
/// # Errors
///
/// When the filter refuses the configuration, or when no tag of `version` can read the attributes.
pub fn envoy_tags(
    json: &[u8],
    version: EnvoyVersion,
    module: &str,
) -> Result<EnvoyTags, ConfigError> {
    let plugin = Plugin::read(json)?;
    let mut custom_tags = Vec::new();
    let mut rules = Vec::new();
    let mut limits = Vec::new();
    let way = plugin.way(version)?;
    for attribute in &plugin.config.attributes {
        let key = &attribute.key;
        match plugin.tag(attribute, &way) {
            Some(Tag::Format(value)) => custom_tags.push(json!({"tag": key, "value": value})),
            Some(Tag::Header(name)) => {
                custom_tags.push(json!({"tag": key, "request_header": {"name": name}}));
            }
            None => match stand_in(attribute) {
                Some(rule) => {
                    rules.push(rule);
                    custom_tags.push(json!({"tag": key, "metadata": {
                        "kind": {"request": {}},
                        "metadata_key": {"key": METADATA, "path": [{"key": key}]},
                    }}));
                    limits.push(TagLimit::ResponseHeaderAsItIs { key: key.clone() });
                }
                None => limits.push(TagLimit::NotOnTheSpan {
                    key: key.clone(),
                    version,
                }),
            },
        }
    }
    if plugin.has_response_tag(|key| {
        custom_tags
            .iter()
            .any(|tag| tag.get("tag") == Some(&json!(key)))
    }) {
        limits.push(TagLimit::ResponseOnServerSpan);
    }
    limits.extend(way.limit());

    let mut http_filters = vec![plugin.http_filter(module)];
    if !rules.is_empty() {
        http_filters.push(json!({
            "name": "span_attributes_of_responses",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
                "response_rules": rules,
            },
        }));
    }
    Ok(EnvoyTags {
        custom_tags,
        http_filters,
        limits,
    })
}

/// Renders the Istio manifests for the `span_attributes` configuration `json`.
///
/// # Errors
/// As [`envoy_tags`].
pub fn istio_tags(
    json: &[u8],
    version: IstioVersion,
    names: &IstioNames,
) -> Result<IstioTags, ConfigError> {
    let plugin = Plugin::read(json)?;
    let way = plugin.way(version.envoy())?;
    let mut custom_tags = Map::new();
    let mut limits = vec![TagLimit::ReplacesTags];
    for attribute in &plugin.config.attributes {
        let tag = match plugin.tag(attribute, &way) {
            Some(Tag::Format(value)) => json!({"formatter": {"value": value}}),
            Some(Tag::Header(name)) => json!({"header": {"name": name}}),
            None => {
                limits.push(TagLimit::NotOnTheSpan {
                    key: attribute.key.clone(),
                    version: version.envoy(),
                });
                continue;
            }
        };
        custom_tags.insert(attribute.key.clone(), tag);
    }
    if plugin.has_response_tag(|key| custom_tags.contains_key(key)) {
        limits.push(TagLimit::ResponseOnServerSpan);
    }
    limits.extend(way.limit());

    let metadata = match &names.namespace {
        None => json!({"name": names.name}),
        Some(namespace) => json!({"name": names.name, "namespace": namespace}),
    };
    Ok(IstioTags {
        wasm_plugin: json!({
            "apiVersion": "extensions.istio.io/v1alpha1",
            "kind": "WasmPlugin",
            "metadata": metadata,
            "spec": plugin.wasm_plugin(&names.url),
        }),
        telemetry: json!({
            "apiVersion": "telemetry.istio.io/v1",
            "kind": "Telemetry",
            "metadata": metadata,
            // In a proxy without the filter, a tag would read what a client sends.
            "spec": {"tracing": [{"match": {"mode": "SERVER"}, "customTags": custom_tags}]},
        }),
        limits,
    })
}

/// The way by which attributes of a request get onto a span.
enum Way {
    FilterState,
    Headers { prefix: String },
}

enum Tag {
    Format(String),
    Header(String),
}

impl Way {
    fn limit(&self) -> Option<TagLimit> {
        match self {
            Self::FilterState => None,
            Self::Headers { prefix } => Some(TagLimit::HeadersGoOn {
                prefix: prefix.clone(),
            }),
        }
    }
}

/// The filter's configuration, as JSON and as it was read.
struct Plugin {
    json: Map<String, Value>,
    config: SpanAttributesConfig,
}

impl Plugin {
    fn read(json: &[u8]) -> Result<Self, ConfigError> {
        let below = |error: ConfigError| error.below("span_attributes");
        let config: SpanAttributesConfig = meshtrace_config::read(json).map_err(below)?;
        Attributes::new(&config, &|_| None).map_err(below)?;
        // It has just been read as JSON; an empty one is an object too.
        let json = serde_json::from_slice(json).unwrap_or_default();
        Ok(Self { json, config })
    }

    fn way(&self, version: EnvoyVersion) -> Result<Way, ConfigError> {
        let emit = &self.config.emit;
        let prefix = emit.request_header_prefix.as_deref();
        match prefix {
            _ if emit.filter_state && version.tags_read_filter_state() => Ok(Way::FilterState),
            Some(prefix) => Ok(Way::Headers {
                prefix: prefix.to_ascii_lowercase(),
            }),
            None if emit.filter_state => Err(ConfigError::new(
                "span_attributes.emit.request_header_prefix",
                format!(
                    "null, but no tag of {version} reads filter state; expected a prefix such as \
                     \"x-span-attr-\", or a later version"
                ),
            )),
            None => Err(ConfigError::new(
                "span_attributes.emit",
                "only `baggage`, which no tag reads; expected `filter_state` or \
                 `request_header_prefix`",
            )),
        }
    }

    fn tag(&self, attribute: &AttributeConfig, way: &Way) -> Option<Tag> {
        let key = &attribute.key;
        match (way, attribute.from.phase()) {
            (Way::FilterState, _) => Some(Tag::Format(cel::filter_state(key))),
            (Way::Headers { prefix }, Phase::Request) => {
                Some(Tag::Header(header_name(prefix, key)))
            }
            (Way::Headers { .. }, Phase::Response) => None,
        }
    }

    /// Whether an attribute of the response has a tag.
    fn has_response_tag(&self, has_tag: impl Fn(&str) -> bool) -> bool {
        let mut attributes = self.config.attributes.iter();
        attributes
            .any(|attribute| attribute.from.phase() == Phase::Response && has_tag(&attribute.key))
    }

    fn edits_headers(&self) -> bool {
        let emit = &self.config.emit;
        let edits = self.config.request_headers.unwrap_or_default() == RequestHeaders::Edit;
        edits && (emit.request_header_prefix.is_some() || emit.baggage)
    }

    /// The environment variables that the filter reads at start.
    fn variables(&self) -> Vec<&str> {
        let attributes = self.config.attributes.iter();
        let mut names: Vec<_> = attributes
            .flat_map(|attribute| {
                let source = match &attribute.from {
                    SourceConfig::Env(name) => Some(name.as_str()),
                    _ => None,
                };
                let keys = attribute.transform.iter().filter_map(|step| match step {
                    TransformConfig::HmacSha256(hmac) => Some(hmac.key_env.as_str()),
                    _ => None,
                });
                source.into_iter().chain(keys)
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn http_filter(&self, module: &str) -> Value {
        let mut vm_config = json!({
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": module}},
        });
        let variables = self.variables();
        if !variables.is_empty() {
            insert(
                &mut vm_config,
                "environment_variables",
                json!({"host_env_keys": variables}),
            );
        }
        json!({
            "name": "span_attributes",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "config": {
                    "name": "span_attributes",
                    "failure_policy": "FAIL_RELOAD",
                    "vm_config": vm_config,
                    "configuration": {
                        "@type": "type.googleapis.com/google.protobuf.StringValue",
                        "value": Value::Object(self.json.clone()).to_string(),
                    },
                },
            },
        })
    }

    fn wasm_plugin(&self, url: &str) -> Value {
        let mut spec = json!({
            "url": url,
            "pluginName": "span_attributes",
            "match": [{"mode": "SERVER"}],
            "failStrategy": "FAIL_OPEN",
            "pluginConfig": self.json,
        });
        if self.edits_headers() {
            // An edit makes Envoy choose the route again, so the filter runs before other filters
            // change headers.
            insert(&mut spec, "phase", json!("AUTHN"));
        }
        let variables = self.variables();
        if !variables.is_empty() {
            let env = |name| json!({"name": name, "valueFrom": "HOST"});
            let env: Vec<_> = variables.into_iter().map(env).collect();
            insert(&mut spec, "vmConfig", json!({"env": env}));
        }
        spec
    }
}

/// The native rule that puts a response header into metadata, where the attribute is that header.
fn stand_in(attribute: &AttributeConfig) -> Option<Value> {
    let SourceConfig::ResponseHeader(header) = &attribute.from else {
        return None;
    };
    if !attribute.transform.is_empty() {
        return None;
    }
    let mut rule = json!({
        "header": header.to_ascii_lowercase(),
        "on_header_present": {"metadata_namespace": METADATA, "key": attribute.key},
    });
    if let Some(default) = &attribute.default {
        let missing = json!({
            "metadata_namespace": METADATA,
            "key": attribute.key,
            "value": default,
        });
        insert(&mut rule, "on_header_missing", missing);
    }
    Some(rule)
}

fn insert(object: &mut Value, key: &str, value: Value) {
    if let Value::Object(object) = object {
        object.insert(key.to_owned(), value);
    }
}
