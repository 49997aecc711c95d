//! A list of header mutations, in order.

use serde_json::{Value, json};

/// Mutations that Envoy applies one after the other. Each reads the headers as those before it left
/// them.
///
/// A mutation whose value is empty leaves its header unchanged, whatever the action.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script(Vec<Mutation>);

#[derive(Clone, Debug)]
struct Mutation {
    header: String,
    change: Change,
}

#[derive(Clone, Debug)]
enum Change {
    Remove,
    /// Removes every header whose name begins with this text.
    RemoveFamily,
    Append {
        action: &'static str,
        format: String,
    },
}

impl Script {
    pub(crate) fn remove(&mut self, header: impl Into<String>) {
        self.push(header, Change::Remove);
    }

    /// Removes every header whose name begins with `prefix` (Envoy 1.36 and later).
    pub(crate) fn remove_family(&mut self, prefix: impl Into<String>) {
        self.push(prefix, Change::RemoveFamily);
    }

    /// Sets `header`. It replaces a line that is present, also repeated lines.
    pub(crate) fn set(&mut self, header: impl Into<String>, format: impl Into<String>) {
        self.append(header, "OVERWRITE_IF_EXISTS_OR_ADD", format.into());
    }

    pub(crate) fn set_if_absent(&mut self, header: impl Into<String>, format: impl Into<String>) {
        self.append(header, "ADD_IF_ABSENT", format.into());
    }

    /// Sets `header` only where it is present: a constant in `format` cannot create a header.
    pub(crate) fn set_if_present(&mut self, header: impl Into<String>, format: impl Into<String>) {
        self.append(header, "OVERWRITE_IF_EXISTS", format.into());
    }

    /// One entry of `early_header_mutation_extensions`.
    pub(crate) fn to_extension(&self, name: &str) -> Value {
        json!({
            "name": name,
            "typed_config": {
                "@type": concat!(
                    "type.googleapis.com/envoy.extensions.http.early_header_mutation.",
                    "header_mutation.v3.HeaderMutation"
                ),
                "mutations": self.to_json(),
            },
        })
    }

    fn to_json(&self) -> Value {
        let mutation = |mutation: &Mutation| match &mutation.change {
            Change::Remove => json!({"remove": mutation.header}),
            Change::RemoveFamily => json!({"remove_on_match": {
                "key_matcher": {"prefix": mutation.header},
            }}),
            Change::Append { action, format } => json!({"append": {
                "append_action": action,
                "header": {"key": mutation.header, "value": format},
            }}),
        };
        self.0.iter().map(mutation).collect()
    }

    fn append(&mut self, header: impl Into<String>, action: &'static str, format: String) {
        self.push(header, Change::Append { action, format });
    }

    fn push(&mut self, header: impl Into<String>, change: Change) {
        let header = header.into();
        self.0.push(Mutation { header, change });
    }
}
