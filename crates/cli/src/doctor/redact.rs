//! Removes secrets from what an Envoy tells about itself.
//!
//! Whatever may hold a secret is removed, also where it holds none: a value of a header, a text that
//! stands in the configuration itself, the environment, the configuration of other plugins.

use std::collections::BTreeSet;

use meshtrace_check::{Input, filters_of};
use serde_json::{Map, Value};

/// What stands where something was removed.
pub(crate) const REMOVED: &str = "[removed]";

/// Parts of keys whose texts are removed, with everything below them. They are compared in lower
/// case, without `_` and `-`.
const KEYS: [&str; 20] = [
    "secret",
    "token",
    "password",
    "passwd",
    "passphrase",
    "privatekey",
    "authorization",
    "credential",
    "apikey",
    "accesskey",
    "jsonkey",
    "hmac",
    "inlinestring",
    "inlinebytes",
    "inlinecode",
    "sourcecode",
    "jwks",
    "configyaml",
    "annotations",
    "keyvalues",
];

/// Keys whose texts are removed, with everything below them: texts that somebody has written into a tag, an
/// attribute or a route.
const TEXTS: [&str; 3] = ["literal", "default_value", "query_parameters"];

/// The path of a collector that everybody has.
const USUAL_PATH: &str = "/v1/traces";

/// Parts of the names of headers, cookies and parameters whose values are removed.
const NAMES: [&str; 8] = [
    "auth",
    "cookie",
    "token",
    "secret",
    "key",
    "password",
    "credential",
    "session",
];

/// Keys that name a variable of the environment, whose value is not in the configuration.
const VARIABLES: [&str; 2] = ["key_env", "value_env"];

/// The metadata of a node that tells the version and the place, and nothing else.
const METADATA: [&str; 7] = [
    "ISTIO_VERSION",
    "NAME",
    "NAMESPACE",
    "WORKLOAD_NAME",
    "CLUSTER_ID",
    "MESH_ID",
    "INTERCEPTION_MODE",
];

/// The shortest removed text that is looked for in other texts.
const SHORTEST: usize = 6;

/// Removes secrets, and knows what it removed.
#[derive(Debug, Default)]
pub(crate) struct Redactor {
    removed: BTreeSet<String>,
}

impl Redactor {
    /// Removes the secrets of a document.
    pub(crate) fn clean(&mut self, document: &mut Value) {
        self.value(document, false);
        self.details(document);
    }

    fn value(&mut self, value: &mut Value, is_secret: bool) {
        match value {
            Value::Object(map) => self.map(map, is_secret),
            Value::Array(items) => {
                for item in items {
                    self.value(item, is_secret);
                }
            }
            Value::String(text) if is_secret || looks_secret(text) => self.remove(text),
            Value::String(text) => self.url(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn map(&mut self, map: &mut Map<String, Value>, is_secret: bool) {
        let text_of = |key: &str| map.get(key).and_then(Value::as_str);
        let kind = text_of("@type").unwrap_or_default();
        let is_text = ["StringValue", "BytesValue"]
            .iter()
            .any(|name| kind.rsplit('/').next() == Some(&format!("google.protobuf.{name}")));
        let is_header = text_of("key").is_some() && text_of("value").is_some();
        let is_named_secret = text_of("name").or(text_of("key")).is_some_and(is_name);
        let is_node = map.contains_key("id") && map.contains_key("metadata");
        let is_report = map.contains_key("cluster") && map.contains_key("path");
        for (key, value) in map {
            match value {
                Value::String(_) if key == "@type" => {}
                Value::String(_) if VARIABLES.contains(&key.as_str()) => {}
                Value::String(text) if key == "value" && is_text && !is_secret => {
                    self.configuration(text);
                }
                Value::String(text) if key == "value" && is_header && !is_secret => {
                    if !is_harmless(text) {
                        self.remove(text);
                    }
                }
                // Some collectors have a key in their path.
                Value::String(text) if key == "path" && is_report => {
                    if text != USUAL_PATH {
                        self.remove(text);
                    }
                }
                Value::String(_) if key == "name" || key == "key" => self.value(value, is_secret),
                Value::Object(metadata) if key == "metadata" && is_node => {
                    for (key, value) in metadata {
                        self.value(value, !METADATA.contains(&key.as_str()));
                    }
                }
                _ => {
                    let is_map_of_headers = key == "headers" && value.is_object();
                    let is_text = TEXTS.contains(&key.as_str());
                    let is_below = is_key(key) || is_text || is_map_of_headers || is_named_secret;
                    self.value(value, is_secret || is_below);
                }
            }
        }
    }

    /// The configuration of a filter of meshtrace stays without its secrets. Nobody knows where
    /// other ones have theirs.
    fn configuration(&mut self, text: &mut String) {
        let input = Input {
            name: String::new(),
            bytes: text.clone().into_bytes(),
        };
        let is_empty = matches!(text.trim(), "" | "{}");
        let parsed = serde_json::from_str::<Value>(text);
        match parsed {
            _ if is_empty => {}
            Ok(mut config @ Value::Object(_)) if !filters_of(&input).is_empty() => {
                self.value(&mut config, false);
                *text = config.to_string();
            }
            _ => self.remove(text),
        }
    }

    /// What Envoy quotes where it refuses something.
    fn details(&self, value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        Value::String(text) if key == "details" => *text = self.text(text),
                        value => self.details(value),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.details(item)),
            _ => {}
        }
    }

    /// A text without what was removed elsewhere.
    pub(crate) fn text(&self, text: &str) -> String {
        let secrets = self.removed.iter();
        let secrets = secrets.filter(|secret| secret.len() >= SHORTEST);
        secrets.fold(text.to_owned(), |text, secret| {
            text.replace(secret, REMOVED)
        })
    }

    fn remove(&mut self, text: &mut String) {
        if !text.is_empty() && text != REMOVED {
            self.removed
                .insert(std::mem::replace(text, REMOVED.to_owned()));
        }
    }

    /// Removes a user's name and password, and a query, from a URL, and a query from a path.
    fn url(&mut self, text: &mut String) {
        let is_path = text.starts_with('/');
        if let Some((path, query)) = text.split_once('?').filter(|_| is_path) {
            // Otherwise it is a question mark of an expression.
            if query.contains('=') {
                let cleaned = format!("{path}?{REMOVED}");
                self.removed.insert(std::mem::replace(text, cleaned));
            }
            return;
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return;
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let (user, host) = host.rsplit_once('@').unwrap_or(("", host));
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if user.is_empty() && query.is_empty() {
            return;
        }
        let user = if user.is_empty() { "" } else { "[removed]@" };
        let query = if query.is_empty() { "" } else { "?[removed]" };
        let cleaned = format!("{scheme}://{user}{host}{path}{query}");
        self.removed.insert(std::mem::replace(text, cleaned));
    }
}

fn letters(text: &str) -> String {
    let letters = text.chars().filter(|letter| !matches!(letter, '_' | '-'));
    letters.collect::<String>().to_ascii_lowercase()
}

fn is_key(key: &str) -> bool {
    let key = letters(key);
    // Rates have tokens too, and are numbers.
    KEYS.iter().any(|part| key.contains(part))
}

fn is_name(name: &str) -> bool {
    let name = letters(name);
    NAMES.iter().any(|part| name.contains(part))
}

/// Whether the value of a header is made of a request, or a flag.
fn is_harmless(value: &str) -> bool {
    let is_format = value.starts_with('%') && value.ends_with('%') && !value.contains(' ');
    is_format || matches!(value, "true" | "false" | "0" | "1")
}

fn looks_secret(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let has_scheme = ["bearer ", "basic "]
        .iter()
        .any(|scheme| lower.contains(scheme));
    let is_jwt = |word: &str| word.starts_with("eyJ") && word.matches('.').count() == 2;
    let mut words = text.split(|character: char| character.is_whitespace() || character == '"');
    has_scheme || text.contains("-----BEGIN") || words.any(is_jwt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cleaned(mut document: Value) -> String {
        Redactor::default().clean(&mut document);
        document.to_string()
    }

    #[test]
    fn what_may_be_secret_is_removed() {
        for document in [
            json!({"private_key": {"inline_bytes": "MARK"}}),
            json!({"transport_socket": {"privateKey": {"inlineString": "MARK"}}}),
            json!({"initial_metadata": [{"key": "x-team", "value": "MARK"}]}),
            json!({"header": {"key": "authorization", "value": "Bearer MARK"}}),
            json!({"headers": [{"name": "x-api-key", "string_match": {"exact": "MARK"}}]}),
            json!({"environment_variables": {"key_values": {"KEY": "MARK"}}}),
            json!({"call_credentials": [{"access_token": "MARK"}]}),
            json!({"uri": "https://user:MARK@host/path"}),
            json!({"uri": "https://host/path?token=MARK"}),
            json!({"text": "-----BEGIN PRIVATE KEY-----MARK"}),
            json!({"text": "a eyJhbGciOiJIUzI1NiJ9.MARK.x"}),
            json!({"node": {"id": "a", "metadata": {"ANNOTATIONS": {"a": "MARK"}, "OTHER": ["MARK"]}}}),
            json!({"command_line_options": {"config_yaml": "a: MARK"}}),
            json!({"configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "MARK"}}),
            json!({"configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": "{\"report\": {\"cluster\": \"c\", \"headers\": {\"x-team\": \"MARK\"}}}"}}),
            json!({"configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": "{\"report\": {\"cluster\": \"c\", \"path\": \"/MARK/v1/traces\"}}"}}),
            json!({"configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": "{\"attributes\": [{\"key\": \"a\", \"from\": {\"literal\": \"MARK\"}}]}"}}),
            json!({"custom_tags": [{"tag": "a", "literal": {"value": "MARK"}}]}),
            json!({"custom_tags": [{"tag": "a", "environment": {"name": "A", "default_value": "MARK"}}]}),
            json!({"match": {"query_parameters": [{"name": "a", "string_match": {"exact": "MARK"}}]}}),
            json!({"redirect": {"path_redirect": "/a?key=MARK"}}),
            // Envoy quotes what it refuses.
            json!({"error_state": {"failed": {"password": "MARK-MARK"}, "details": "bad value MARK-MARK"}}),
        ] {
            let text = cleaned(document.clone());
            assert!(!text.contains("MARK"), "{document}: {text}");
            assert!(text.contains(REMOVED), "{document}: {text}");
        }
    }

    #[test]
    fn what_helps_stays() {
        let config = r#"{"span_attributes":{"attributes":[{"from":{"header":"x-user"},"key":"user.id","transform":[{"hmac_sha256":{"key_env":"HMAC_KEY"}}]}]}}"#;
        for document in [
            json!({"key": "x-b3-traceid", "value": "%REQ(x-b3-traceid)%"}),
            json!({"configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": config}}),
            json!({"node": {"id": "sidecar~1", "metadata": {"NAMESPACE": "shop"}}}),
            json!({"token_bucket": {"max_tokens": 5}}),
            json!({"filename": "/etc/meshtrace/trace_context.wasm"}),
            json!({"uri": "https://host/path"}),
            json!({"safe_regex": {"regex": "/a?b.*"}}),
            json!({"report": {"cluster": "c", "path": "/v1/traces"}}),
            json!({"route": {"cluster": "c", "host_rewrite_literal": "a"}}),
        ] {
            assert_eq!(cleaned(document.clone()), document.to_string());
        }
    }
}
