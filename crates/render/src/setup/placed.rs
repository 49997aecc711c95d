//! A filter in its place, with its final configuration.

use serde_json::{Value, json};

use super::input::Filter;
use super::module::Module;
use super::part::{ByState, Config};

const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const STRING: &str = "type.googleapis.com/google.protobuf.StringValue";
pub(super) const DYNAMIC_MODULE: &str = "meshtrace";

#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) filter: Filter,
    /// The name of the plugin, which no other one in the proxy has.
    pub(super) name: String,
    pub(super) config: Config,
    pub(super) module: Module,
    /// The environment variables that it reads.
    pub(super) variables: Vec<String>,
    /// Whether it edits request headers, so that Envoy chooses the route again.
    pub(super) edits: bool,
    /// The headers that it writes as filter state.
    pub(super) by_state: Option<ByState>,
    /// The filter directly before it, which writes the proxy's own ids for it.
    pub(super) step: Option<Value>,
    /// Whether another plugin has the same module, so that only `vm_id` tells their VMs apart.
    pub(super) shares_module: bool,
}

impl Placed {
    /// An HTTP filter of Envoy.
    pub(super) fn http_filter(&self, name: &str, code: Value, policy: &str) -> Value {
        json!({"name": name, "typed_config": self.typed_config(code, policy)})
    }

    /// Envoy's `Wasm` message.
    pub(super) fn typed_config(&self, code: Value, policy: &str) -> Value {
        let mut vm = Config::new();
        vm.insert("runtime".to_owned(), json!("envoy.wasm.runtime.v8"));
        vm.insert("code".to_owned(), code);
        if self.shares_module {
            vm.insert("vm_id".to_owned(), json!(self.name));
        }
        if !self.variables.is_empty() {
            let keys = json!({"host_env_keys": self.variables});
            vm.insert("environment_variables".to_owned(), keys);
        }
        let mut plugin = Config::new();
        plugin.insert("name".to_owned(), json!(self.name));
        plugin.insert("root_id".to_owned(), json!(self.name));
        plugin.insert("failure_policy".to_owned(), json!(policy));
        plugin.insert("vm_config".to_owned(), Value::Object(vm));
        plugin.insert("configuration".to_owned(), text(&self.config));
        json!({"@type": WASM, "config": plugin})
    }
}

/// JSON in a `StringValue`: a `Struct` would reach the filter as protobuf.
pub(super) fn text(config: &Config) -> Value {
    let compact = Value::Object(config.clone()).to_string();
    let text = match compact.len() > 72 {
        true => serde_json::to_string_pretty(config).unwrap_or(compact),
        false => compact,
    };
    // With the line's end it is a block, without quotes of YAML.
    let text = text + "\n";
    json!({"@type": STRING, "value": text})
}

/// The module of the native tracer, which is the same wherever it is named.
pub(super) fn dynamic_module() -> Value {
    json!({"name": DYNAMIC_MODULE, "do_not_close": true})
}
