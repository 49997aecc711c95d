//! Settings of the HTTP connection manager that must go with a mutation.

use meshtrace_propagation::WhenConfig;
use serde_json::{Map, Value, json};

/// Fields of Envoy's `HttpConnectionManager`. `None` means that the user decides about the field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManagerSettings {
    /// `tracing.client_sampling` in per cent. With 0, `x-client-trace-id` forces no trace.
    ///
    /// The mutation removes that header too, so no gap is left where this field cannot be set.
    pub client_sampling: Option<u8>,
    /// `generate_request_id`, which is true by Envoy's default. Where it is false and the caller's
    /// id is removed, Envoy traces no request, because it makes no sampling decision for a request
    /// without an id.
    pub generate_request_id: Option<bool>,
}

impl ManagerSettings {
    /// Trusted callers use the same connection manager, and may force a trace.
    pub(super) fn beside_removals(when: &WhenConfig) -> Self {
        let everyone = when.not_from_cidrs.is_none() && when.header_absent.is_none();
        Self {
            client_sampling: everyone.then_some(0),
            generate_request_id: Some(true),
        }
    }

    /// The settings as a part of the connection manager, to be merged into the rest of it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut manager = Map::new();
        if let Some(percent) = self.client_sampling {
            let tracing = json!({"client_sampling": {"value": percent}});
            manager.insert("tracing".to_owned(), tracing);
        }
        if let Some(generate) = self.generate_request_id {
            manager.insert("generate_request_id".to_owned(), json!(generate));
        }
        Value::Object(manager)
    }
}
