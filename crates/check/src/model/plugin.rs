//! A plugin: which filter of meshtrace it is, and how it is configured.

use crate::document::Node;
use crate::files::Files;
use crate::filter::Filter;
use crate::kind::Guess;

/// The way in which the plugin is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// An Envoy loads it from its own configuration.
    Envoy,
    /// An `EnvoyFilter` of Istio adds it.
    EnvoyFilter,
    /// A `WasmPlugin` or `TrafficExtension` of Istio adds it.
    Istio,
    /// An `EnvoyExtensionPolicy` of Envoy Gateway adds it.
    Gateway,
    /// Nothing loads it: the file has only the plugin's configuration.
    Nobody,
}

/// The list of filters in which the plugin stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// The filters of a listener.
    Listener,
    /// The upstream filters, which run behind the router.
    Upstream,
    /// The list cannot be seen.
    Unknown,
}

/// The plugin's configuration, as far as it can be read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Config<'t> {
    /// There is no configuration.
    Absent,
    /// The configuration. It should be a map: a list or a scalar is a mistake.
    Read(Node<'t>),
    /// A text that is not JSON, or a message that does not arrive as JSON. A rule reports it.
    Unreadable,
}

#[derive(Clone, Debug)]
pub(crate) struct Plugin<'t> {
    /// Envoy's `PluginConfig`, or the corresponding part of the resource.
    pub(crate) node: Node<'t>,
    pub(crate) host: Host,
    pub(crate) spot: Spot,
    pub(crate) filter: Filter,
    pub(crate) config: Config<'t>,
    /// The scalar or the message that contains the configuration.
    pub(crate) written: Option<Node<'t>>,
    pub(crate) name: &'t str,
    pub(crate) root_id: &'t str,
    pub(crate) vm_id: &'t str,
    /// The file or the URL of the module.
    pub(crate) code: Option<Node<'t>>,
    /// The variables of its environment; `None` where there may be other ones.
    pub(crate) environment: Vec<&'t str>,
}

impl<'t> Plugin<'t> {
    /// A plugin of an Envoy: `envoy.extensions.wasm.v3.PluginConfig`. `None` where it is no plugin
    /// of meshtrace.
    pub(crate) fn of_envoy(
        config: Node<'t>,
        host: Host,
        spot: Spot,
        files: &'t Files,
    ) -> Option<Self> {
        let text = |keys: &[&str]| config.text_at(keys).unwrap_or_default();
        let code = config.at(&["vm_config", "code"]);
        let code = code.and_then(|code| {
            code.at(&["local", "filename"])
                .or_else(|| code.at(&["remote", "http_uri", "uri"]))
        });
        let (name, root_id) = (text(&["name"]), text(&["root_id"]));
        let written = config.get("configuration");
        let read = match written {
            None => Config::Absent,
            Some(message) => configuration(message, files),
        };
        let filter = identify(code, [name, root_id], read)?;
        let variables = config.at(&["vm_config", "environment_variables"]);
        let named = variables
            .and_then(|variables| variables.get("key_values"))
            .into_iter()
            .flat_map(Node::entries)
            .map(|(name, _)| name);
        let from_host = variables
            .into_iter()
            .flat_map(|variables| variables.list("host_env_keys"))
            .filter_map(Node::scalar);
        Some(Self {
            node: config,
            host,
            spot,
            filter,
            config: read,
            written,
            name,
            root_id,
            vm_id: text(&["vm_config", "vm_id"]),
            code,
            environment: named.chain(from_host).collect(),
        })
    }

    /// The tracer of `libmeshtrace.so`: `DynamicModuleTracer` of Envoy. It is mesh_tracing without
    /// Wasm. `None` where the module is a different one.
    pub(crate) fn of_native(tracer: Node<'t>, files: &'t Files) -> Option<Self> {
        let is_own = tracer.text_at(&["dynamic_module_config", "name"]) == Some("meshtrace")
            || tracer.text_at(&["tracer_name"]) == Some("mesh_tracing");
        let written = tracer.get("tracer_config");
        is_own.then(|| Self {
            node: tracer,
            host: Host::Envoy,
            spot: Spot::Unknown,
            filter: Filter::MeshTracing,
            config: written.map_or(Config::Absent, |message| configuration(message, files)),
            written,
            name: "",
            root_id: "",
            vm_id: "",
            code: None,
            environment: Vec::new(),
        })
    }

    /// Whether it is the native tracer.
    pub(crate) fn is_native(&self) -> bool {
        self.node.get("dynamic_module_config").is_some()
    }

    /// A plugin of a `WasmPlugin`'s spec or a `TrafficExtension`'s `wasm`.
    pub(crate) fn of_istio(spec: Node<'t>, resource: Node<'t>) -> Option<Self> {
        let code = spec.get("url");
        let name = resource.text_at(&["metadata", "name"]).unwrap_or_default();
        let root_id = spec.text_at(&["plugin_name"]).unwrap_or_default();
        let written = spec.get("plugin_config");
        let config = written.map_or(Config::Absent, Config::Read);
        let filter = identify(code, [root_id, name], config)?;
        let environment = spec
            .at(&["vm_config"])
            .into_iter()
            .flat_map(|vm| vm.list("env"))
            .filter_map(|variable| variable.text_at(&["name"]))
            .collect();
        Some(Self {
            node: spec,
            host: Host::Istio,
            spot: Spot::Listener,
            filter,
            config,
            written,
            name,
            root_id,
            vm_id: "",
            code,
            environment,
        })
    }

    /// A plugin of an `EnvoyExtensionPolicy`.
    pub(crate) fn of_gateway(wasm: Node<'t>) -> Option<Self> {
        let code = wasm
            .at(&["code", "image", "url"])
            .or_else(|| wasm.at(&["code", "http", "url"]));
        let name = wasm.text_at(&["name"]).unwrap_or_default();
        let root_id = wasm.text_at(&["root_id"]).unwrap_or_default();
        let written = wasm.get("config");
        let config = written.map_or(Config::Absent, Config::Read);
        let filter = identify(code, [name, root_id], config)?;
        let from_host = wasm
            .get("env")
            .into_iter()
            .flat_map(|env| env.list("host_keys"))
            .filter_map(Node::scalar);
        Some(Self {
            node: wasm,
            host: Host::Gateway,
            spot: Spot::Listener,
            filter,
            config,
            written,
            name,
            root_id,
            vm_id: name,
            code,
            environment: from_host.collect(),
        })
    }

    /// A configuration without anything that loads it.
    pub(crate) fn alone(config: Node<'t>, filter: Filter) -> Self {
        Self {
            node: config,
            host: Host::Nobody,
            spot: Spot::Unknown,
            filter,
            config: Config::Read(config),
            written: Some(config),
            name: "",
            root_id: "",
            vm_id: "",
            code: None,
            environment: Vec::new(),
        }
    }

    /// The configuration, where it is a map.
    pub(crate) fn map(&self) -> Option<Node<'t>> {
        match self.config {
            Config::Read(node) if node.is_map() => Some(node),
            _ => None,
        }
    }

    /// Whether it has the stage of `filter`: it is that filter, or mesh_tracing with that stage.
    pub(crate) fn has(&self, filter: Filter) -> bool {
        self.filter == filter || self.stage(filter).is_some()
    }

    /// The configuration of the stage of `filter`. `None` where there is no such stage, or no
    /// configuration of it.
    pub(crate) fn stage(&self, filter: Filter) -> Option<Node<'t>> {
        if self.filter == filter {
            return self.map();
        }
        match self.filter {
            Filter::MeshTracing => self.map()?.get(filter.stage()?),
            _ => None,
        }
    }

    /// The configuration of mesh_tracing's report.
    pub(crate) fn report(&self) -> Option<Node<'t>> {
        match self.filter {
            Filter::MeshTracing => self.map()?.get("report"),
            _ => None,
        }
    }

    /// The text under a key at the top of the configuration.
    pub(crate) fn text(&self, key: &str) -> Option<&'t str> {
        self.map()?.get(key)?.text()
    }

    /// Whether it edits request headers.
    pub(crate) fn edits(&self) -> bool {
        if self.text("request_headers") == Some("filter_state") {
            return false;
        }
        let stage_edits = |filter: Filter| {
            let own = self.stage(filter);
            let get = |keys: &[&str]| own.and_then(|stage| stage.at(keys));
            match filter {
                Filter::TraceContext => true,
                Filter::SpanAttributes => {
                    get(&["emit", "request_header_prefix"]).is_some()
                        || get(&["emit", "baggage"]).and_then(Node::bool) == Some(true)
                }
                Filter::AccessLogTrace => get(&["ids", "trace_id_header"])
                    .or(get(&["ids", "span_id_header"]))
                    .is_some(),
                Filter::RouteSampling => {
                    let decides = get(&["rules"])
                        .is_some_and(|rules| rules.items().next().is_some())
                        || get(&["default"])
                            .is_some_and(|sample| sample.text() != Some("unchanged"));
                    let header = own.and_then(|stage| stage.get_exactly("request_header"));
                    decides && !header.is_some_and(Node::is_null)
                        || get(&["force"]).is_some()
                        || get(&["ids", "trace_id_header"]).is_some()
                }
                Filter::MeshTracing => self.report().is_some(),
            }
        };
        Filter::ALL
            .into_iter()
            .any(|filter| self.has(filter) && stage_edits(filter))
    }

    /// The plugin's name for the user.
    pub(crate) fn title(&self) -> &'static str {
        self.filter.name()
    }
}

/// The formats in the list under `key`; without a list, those of the default.
pub(crate) fn formats<'t>(
    config: Option<Node<'t>>,
    key: &str,
    default: &'static [&'static str],
) -> Vec<&'t str> {
    match config.and_then(|config| config.get(key)) {
        Some(list) if list.is_list() => list.items().filter_map(Node::scalar).collect(),
        _ => default.to_vec(),
    }
}

/// Finds the filter of a module by the name of its file or image, by the plugin's names, or by the
/// keys of its configuration.
fn identify(code: Option<Node<'_>>, names: [&str; 2], config: Config<'_>) -> Option<Filter> {
    let code = code.and_then(Node::scalar).unwrap_or_default();
    let file = code.rsplit('/').next().unwrap_or(code);
    if let Some(filter) = Filter::within(file) {
        return Some(filter);
    }
    let shape = match config {
        Config::Read(node) => crate::kind::filter_of(node),
        _ => Guess::None,
    };
    let Some(filter) = names.into_iter().find_map(Filter::within) else {
        return shape.one();
    };
    // The module of another vendor may have such a name, but its keys differ. Istio's agent uses
    // the digest as the name of a module's file.
    let stem = file.strip_suffix(".wasm").unwrap_or(file);
    let is_digest = stem.len() >= 32 && stem.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_other = !code.is_empty() && !is_digest && !code.contains("meshtrace");
    let has_keys = matches!(config, Config::Read(node) if node.entries().next().is_some());
    (!is_other || !has_keys || shape.has(filter)).then_some(filter)
}

fn configuration<'t>(message: Node<'t>, files: &'t Files) -> Config<'t> {
    if message.type_url() == Some("google.protobuf.StringValue") {
        let Some(text) = message.get("value") else {
            return Config::Absent;
        };
        if text.scalar().is_some_and(|text| text.trim().is_empty()) {
            return Config::Absent;
        }
        return match files.within(text) {
            Some(Ok(tree)) => match tree.documents().next() {
                Some(root) => Config::Read(root),
                None => Config::Absent,
            },
            _ => Config::Unreadable,
        };
    }
    Config::Unreadable
}
