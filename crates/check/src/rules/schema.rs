//! Checks a configuration against the JSON Schema of its filter. It finds all mistakes at once,
//! each at its own position.

use serde_json::{Map, Value};

use super::suggest;
use crate::document::Node;
use crate::filter::Filter;
use crate::finding::{Code, Findings};

/// Finds every mistake that the schema shows, and returns their number.
pub(crate) fn check(filter: Filter, config: Node<'_>, findings: &mut Findings) -> usize {
    let before = findings.all.len();
    if let Some((schema, defs)) = filter.schema() {
        Walk { defs, findings }.node(schema, config);
    }
    findings.all.len() - before
}

/// The properties of an object's schema.
pub(crate) fn properties<'s>(schema: &'s Value, defs: &'s Value) -> Option<&'s Map<String, Value>> {
    let mut flat = Vec::new();
    flatten(schema, defs, &mut flat, 0);
    flat.into_iter()
        .find_map(|schema| schema.get("properties")?.as_object())
}

/// Whether a value has a form that the schema accepts: a map, a list or a scalar.
pub(crate) fn has_shape(schema: &Value, defs: &Value, node: Node<'_>) -> bool {
    let mut choices = Vec::new();
    flatten(schema, defs, &mut choices, 0);
    choices.iter().any(|choice| {
        if node.is_map() {
            is_type(choice, "object")
        } else if node.is_list() {
            is_type(choice, "array")
        } else {
            !is_type(choice, "object") && !is_type(choice, "array") || is_type(choice, "null")
        }
    })
}

/// Collects the schemas of which a value must follow one.
fn flatten<'s>(schema: &'s Value, defs: &'s Value, into: &mut Vec<&'s Value>, depth: usize) {
    if depth > 8 {
        return;
    }
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let name = name.rsplit('/').next().unwrap_or(name);
        if let Some(found) = defs.get(name) {
            flatten(found, defs, into, depth + 1);
        }
        return;
    }
    let choices = ["anyOf", "oneOf"]
        .iter()
        .find_map(|key| schema.get(*key)?.as_array());
    match choices {
        // In a schema with properties of its own, the choices only list which properties may be
        // used together.
        Some(choices) if schema.get("properties").is_none() => {
            for choice in choices {
                flatten(choice, defs, into, depth + 1);
            }
        }
        _ => into.push(schema),
    }
}

struct Walk<'s, 'f> {
    defs: &'s Value,
    findings: &'f mut Findings,
}

impl<'s> Walk<'s, '_> {
    fn node(&mut self, schema: &'s Value, node: Node<'_>) {
        let mut choices = Vec::new();
        flatten(schema, self.defs, &mut choices, 0);
        if node.is_null() {
            let takes_null = choices.iter().any(|choice| is_type(choice, "null"));
            if !takes_null {
                self.wrong(&choices, node);
            }
        } else if node.is_map() {
            self.map(&choices, node);
        } else if node.is_list() {
            match choices.iter().find(|choice| is_type(choice, "array")) {
                None => self.wrong(&choices, node),
                Some(list) => {
                    if let Some(items) = list.get("items") {
                        for item in node.items() {
                            self.node(items, item);
                        }
                    }
                }
            }
        } else {
            self.scalar(&choices, node);
        }
    }

    fn map(&mut self, choices: &[&'s Value], node: Node<'_>) {
        let known = |schema: &&&Value| {
            let properties = schema.get("properties").and_then(Value::as_object);
            let is_known = |key: &str| properties.is_some_and(|keys| keys.contains_key(key));
            node.entries().filter(|(key, _)| is_known(key)).count()
        };
        let objects: Vec<_> = choices
            .iter()
            .filter(|choice| is_type(choice, "object"))
            .collect();
        let Some(schema) = objects.iter().rev().max_by_key(|schema| known(schema)) else {
            return self.wrong(choices, node);
        };
        let several = objects.len() > 1;
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties");
        let mut seen: Vec<&str> = Vec::new();
        for (key, value) in node.entries() {
            if seen.contains(&key) {
                let message = format!("the key {key:?} stands in this map twice; leave one");
                self.at_key(Code::KeyTwice, value, message);
                continue;
            }
            seen.push(key);
            match properties.and_then(|keys| keys.get(key)) {
                Some(schema) => self.node(schema, value),
                None => match others {
                    Some(schema) if schema.is_object() => self.node(schema, value),
                    Some(Value::Bool(false)) => {
                        let allowed: Vec<&str> = objects
                            .iter()
                            .filter_map(|schema| schema.get("properties")?.as_object())
                            .flat_map(|keys| keys.keys().map(String::as_str))
                            .collect();
                        let is_other = allowed.contains(&key);
                        let message = if is_other {
                            let own = seen.first().copied().unwrap_or_default();
                            format!(
                                "the key {key:?} does not stand beside {own:?}; leave one of them"
                            )
                        } else {
                            format!("unknown key {key:?}; {}", suggest::keys(key, &allowed))
                        };
                        self.at_key(Code::UnknownKey, value, message);
                    }
                    _ => {}
                },
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        for key in required.into_iter().flatten().filter_map(Value::as_str) {
            // Where several forms are possible, an unknown key has been reported already.
            let missing = node.get_exactly(key).is_none();
            if missing && (!several || known(schema) > 0) {
                let message = format!("the key {key:?} is required here");
                self.findings.add(Code::MissingKey, node, message);
            } else if missing && node.entries().next().is_none() {
                self.wrong(choices, node);
            }
        }
    }

    fn at_key(&mut self, code: Code, value: Node<'_>, message: String) {
        let at = value.key_position();
        self.findings
            .add_at(code, value.input(), at, value.path(), message);
    }

    fn scalar(&mut self, choices: &[&'s Value], node: Node<'_>) {
        let fits = |schema: &&Value| {
            if let Some(wanted) = schema.get("const") {
                return equals(wanted, node);
            }
            if let Some(wanted) = schema.get("enum").and_then(Value::as_array) {
                return wanted.iter().any(|wanted| equals(wanted, node));
            }
            if node.bool().is_some() {
                return is_type(schema, "boolean");
            }
            if node.is_number() {
                let number = node.number().unwrap_or_default();
                let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
                let kind = is_type(schema, "number")
                    || is_type(schema, "integer") && number.fract() == 0.0;
                return kind
                    && limit("minimum").is_none_or(|least| number >= least)
                    && limit("maximum").is_none_or(|most| number <= most);
            }
            is_type(schema, "string")
        };
        if !choices.iter().any(fits) {
            self.wrong(choices, node);
        }
    }

    fn wrong(&mut self, choices: &[&Value], node: Node<'_>) {
        let found = if hides_values(&node.path()) {
            "this value".to_owned()
        } else {
            node.describe().into_owned()
        };
        let mut words: Vec<&str> = Vec::new();
        let mut forms: Vec<String> = Vec::new();
        for schema in choices {
            let texts = schema
                .get("enum")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .chain(schema.get("const"));
            let mut is_closed = false;
            for text in texts {
                is_closed = true;
                match text.as_str() {
                    Some(text) => words.push(text),
                    None => forms.push(text.to_string()),
                }
            }
            if !is_closed {
                forms.extend(form(schema));
            }
        }
        forms.dedup();
        let text = node.text().filter(|_| !words.is_empty());
        let expected = match text {
            Some(text) => suggest::values(text, &words, &forms),
            None => {
                let quoted = words.iter().map(|word| format!("{word:?}"));
                format!("expected {}", suggest::list(quoted.chain(forms).collect()))
            }
        };
        self.findings.add(
            Code::WrongValue,
            node,
            format!("{found} is not allowed here; {expected}"),
        );
    }
}

/// The kind of value that a schema accepts, in words.
fn form(schema: &Value) -> Option<String> {
    let limits = || {
        let limit = |key: &str| schema.get(key).filter(|limit| limit.is_number());
        match (limit("minimum"), limit("maximum")) {
            (Some(least), Some(most)) => format!(" from {least} to {most}"),
            (Some(least), None) => format!(" from {least}"),
            _ => String::new(),
        }
    };
    let word = match schema.get("type")? {
        Value::String(word) => word.as_str(),
        Value::Array(words) => words.iter().find_map(Value::as_str)?,
        _ => return None,
    };
    Some(match word {
        "object" => {
            let required = schema.get("required").and_then(Value::as_array);
            let keys: Vec<_> = required
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(|key| format!("{key:?}: …"))
                .collect();
            match keys.is_empty() {
                true => "a map".to_owned(),
                false => format!("{{{}}}", keys.join(", ")),
            }
        }
        "array" => "a list".to_owned(),
        "integer" => format!("an integer{}", limits()),
        "number" => format!("a number{}", limits()),
        "boolean" => "true or false".to_owned(),
        "string" => "a string".to_owned(),
        "null" => return None,
        other => other.to_owned(),
    })
}

fn is_type(schema: &Value, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(own)) => own == kind,
        Some(Value::Array(all)) => all.iter().any(|own| own == kind),
        _ => false,
    }
}

fn equals(wanted: &Value, node: Node<'_>) -> bool {
    match wanted {
        Value::String(text) => node.text() == Some(text),
        Value::Bool(truth) => node.bool() == Some(*truth),
        Value::Number(number) => node.is_number() && node.number() == number.as_f64(),
        _ => false,
    }
}

/// Whether the value at `path` may be a secret.
fn hides_values(path: &str) -> bool {
    path.split(['.', '['])
        .any(|key| matches!(key, "headers" | "force" | "hmac_sha256"))
}
