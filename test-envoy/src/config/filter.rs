use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Layout, duration, merge, watched_file};

/// An HTTP filter of a listener, a router or a cluster.
#[derive(Debug, Clone)]
pub struct HttpFilter {
    name: String,
    typed_config: Value,
    extra: Value,
    discovery: Option<Vec<String>>,
}

impl HttpFilter {
    /// Any filter; `typed_config` is Envoy's JSON with its `@type`.
    pub fn raw(name: &str, typed_config: Value) -> Self {
        Self {
            name: name.to_owned(),
            typed_config,
            extra: json!({}),
            discovery: None,
        }
    }

    /// `header_mutation` with these request mutations: `[{"append": {...}}, {"remove": "x"}]`.
    pub fn header_mutation(name: &str, request_mutations: Value) -> Self {
        Self::raw(
            name,
            json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
                "mutations": {"request_mutations": request_mutations},
            }),
        )
    }

    /// A Lua filter with this source.
    pub fn lua(name: &str, source: &str) -> Self {
        Self::raw(
            name,
            json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                "default_source_code": {"inline_string": source},
            }),
        )
    }

    /// Delivers the filter by ECDS from a file that
    /// [`Envoy::update_extension`](crate::Envoy::update_extension) rewrites.
    pub fn discovered(mut self) -> Self {
        let own = self
            .typed_config
            .get("@type")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        self.discovery.get_or_insert_default().push(own);
        self
    }

    /// As [`HttpFilter::discovered`], for a filter that may be replaced by a filter of another
    /// type.
    pub fn discovered_as(self, type_url: &str) -> Self {
        let mut filter = self.discovered();
        filter
            .discovery
            .get_or_insert_default()
            .push(type_url.to_owned());
        filter
    }

    /// Leaves the filter out for requests whose `header` has this `value` (`ExtensionWithMatcher` with
    /// `SkipFilter`).
    pub fn skipped_with(mut self, header: &str, value: &str) -> Self {
        let header = json!({
            "name": "header",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
                "header_name": header,
            },
        });
        let skip = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.common.matcher.action.v3.SkipFilter",
        });
        self.typed_config = json!({
            "@type": "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher",
            "extension_config": {"name": self.name, "typed_config": self.typed_config},
            "xds_matcher": {"matcher_list": {"matchers": [{
                "predicate": {"single_predicate": {"input": header, "value_match": {"exact": value}}},
                "on_match": {"action": {"name": "skip", "typed_config": skip}},
            }]}},
        });
        self
    }

    /// Merges into the filter's entry in the chain (`disabled`, `is_optional`, …).
    pub fn merge(mut self, patch: Value) -> Self {
        merge(&mut self.extra, patch);
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_discovered(&self) -> bool {
        self.discovery.is_some()
    }

    pub(crate) fn render(&self, layout: &Layout) -> Value {
        let mut filter = match &self.discovery {
            None => json!({"name": self.name, "typed_config": self.typed_config}),
            Some(type_urls) => json!({
                "name": self.name,
                "config_discovery": {
                    "config_source": watched_file(&layout.extension(&self.name)),
                    "type_urls": type_urls,
                },
            }),
        };
        merge(&mut filter, self.extra.clone());
        filter
    }

    pub(crate) fn render_upstream(filters: &[Self], layout: &Layout) -> Value {
        let codec = Self::raw(
            "envoy.filters.http.upstream_codec",
            json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"}),
        );
        filters
            .iter()
            .chain([&codec])
            .map(|filter| filter.render(layout))
            .collect()
    }

    pub(crate) fn render_resource(&self) -> Value {
        json!({
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": self.name,
            "typed_config": self.typed_config,
        })
    }
}

/// A Wasm filter on the runtime V8.
///
/// The plugin configuration is text and reaches the filter as it is (`StringValue`).
#[derive(Debug, Clone)]
pub struct WasmFilter {
    name: String,
    module: PathBuf,
    root_id: Option<String>,
    vm_id: Option<String>,
    configuration: Option<String>,
    vm_configuration: Option<String>,
    failure_policy: FailurePolicy,
    reload_backoff: Option<Duration>,
    environment: serde_json::Map<String, Value>,
    extra: Value,
}

impl WasmFilter {
    /// `name` is the name of the filter and of the plugin. A relative path begins at the test's
    /// working directory.
    pub fn new(name: &str, module: impl AsRef<Path>) -> Self {
        Self {
            name: name.to_owned(),
            module: module.as_ref().to_owned(),
            root_id: None,
            vm_id: None,
            configuration: None,
            vm_configuration: None,
            failure_policy: FailurePolicy::FailReload,
            reload_backoff: None,
            environment: serde_json::Map::new(),
            extra: json!({}),
        }
    }

    /// Sets the plugin configuration. There is none by default.
    pub fn configuration(mut self, text: impl Into<String>) -> Self {
        self.configuration = Some(text.into());
        self
    }

    /// Sets the VM configuration. There is none by default.
    pub fn vm_configuration(mut self, text: impl Into<String>) -> Self {
        self.vm_configuration = Some(text.into());
        self
    }

    /// Sets the plugin's root id.
    pub fn root_id(mut self, id: &str) -> Self {
        self.root_id = Some(id.to_owned());
        self
    }

    /// Separates the plugin's VM from those of plugins with another id. Plugins without an id share
    /// one VM.
    pub fn vm_id(mut self, id: &str) -> Self {
        self.vm_id = Some(id.to_owned());
        self
    }

    /// Sets what happens after a trap. The default is [`FailurePolicy::FailReload`].
    pub fn failure_policy(mut self, policy: FailurePolicy) -> Self {
        self.failure_policy = policy;
        self
    }

    /// Sets how long [`FailurePolicy::FailReload`] waits for a new VM. Envoy's default is 1 s.
    pub fn reload_backoff(mut self, base: Duration) -> Self {
        self.reload_backoff = Some(base);
        self
    }

    /// Sets an environment variable of the VM, which WASI modules can read.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), json!(value));
        self
    }

    /// Merges into the finished `PluginConfig`.
    pub fn merge(mut self, patch: Value) -> Self {
        merge(&mut self.extra, patch);
        self
    }

    /// As [`HttpFilter::discovered`].
    pub fn discovered(self) -> HttpFilter {
        HttpFilter::from(self).discovered()
    }
}

impl From<WasmFilter> for HttpFilter {
    fn from(filter: WasmFilter) -> Self {
        // Envoy's working directory is the test's own; absolute paths keep the configuration
        // readable on its own.
        let module = std::path::absolute(&filter.module).unwrap_or(filter.module);
        let mut plugin = json!({
            "name": filter.name,
            "failure_policy": filter.failure_policy.as_str(),
            "vm_config": {
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": module}},
            },
        });
        if let Some(id) = filter.root_id {
            plugin["root_id"] = json!(id);
        }
        if let Some(id) = filter.vm_id {
            plugin["vm_config"]["vm_id"] = json!(id);
        }
        if let Some(text) = filter.configuration {
            plugin["configuration"] = string_value(&text);
        }
        if let Some(text) = filter.vm_configuration {
            plugin["vm_config"]["configuration"] = string_value(&text);
        }
        if let Some(base) = filter.reload_backoff {
            plugin["reload_config"] = json!({"backoff": {"base_interval": duration(base)}});
        }
        if !filter.environment.is_empty() {
            plugin["vm_config"]["environment_variables"] =
                json!({"key_values": filter.environment});
        }
        merge(&mut plugin, filter.extra);
        Self::raw(
            &filter.name,
            json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "config": plugin,
            }),
        )
    }
}

fn string_value(text: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text})
}

/// What Envoy does with requests after a plugin's VM trapped. The request that trapped always gets
/// 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePolicy {
    /// Requests get 503 until a new VM runs.
    FailReload,
    /// Every request gets 503.
    FailClosed,
    /// Requests pass without the plugin.
    FailOpen,
}

impl FailurePolicy {
    fn as_str(self) -> &'static str {
        match self {
            Self::FailReload => "FAIL_RELOAD",
            Self::FailClosed => "FAIL_CLOSED",
            Self::FailOpen => "FAIL_OPEN",
        }
    }
}
