//! The resources of Istio and Envoy Gateway, and the filters that they put into proxies.

use super::chain::{self, Manager, Tracer, Tracing};
use super::plugin::{Host, Plugin, Spot};
use super::{Model, Resource};
use crate::document::Node;
use crate::kind::{self, Kind};

impl<'t> Model<'t> {
    pub(super) fn take_resource(&mut self, document: Node<'t>, kind: &'t str) {
        let resource = Resource::new(document, kind);
        let spec = resource.spec();
        match kind {
            "WasmPlugin" => self
                .plugins
                .extend(spec.and_then(|spec| Plugin::of_istio(spec, document))),
            "TrafficExtension" => self.plugins.extend(
                spec.and_then(|spec| spec.get("wasm"))
                    .and_then(|wasm| Plugin::of_istio(wasm, document)),
            ),
            "EnvoyExtensionPolicy" => {
                let wasm = spec.into_iter().flat_map(|spec| spec.list("wasm"));
                self.plugins.extend(wasm.filter_map(Plugin::of_gateway));
            }
            "EnvoyFilter" => self.take_envoy_filter(document),
            "EnvoyProxy" => {
                let bootstrap = document.at(&["spec", "bootstrap", "value"]);
                let within = bootstrap.and_then(|text| self.files.within(text));
                if let Some(Ok(tree)) = within {
                    let clusters = tree
                        .documents()
                        .filter_map(|root| root.get("static_resources"))
                        .flat_map(|resources| resources.list("clusters"))
                        .collect::<Vec<_>>();
                    for cluster in clusters {
                        self.take_cluster(cluster);
                    }
                }
            }
            "IstioOperator" => self
                .meshes
                .extend(spec.and_then(|spec| spec.get("mesh_config"))),
            "ConfigMap" => self.take_config_map(document),
            "EnvoyPatchPolicy" => {
                let patches = spec
                    .into_iter()
                    .flat_map(|spec| spec.list("json_patches"))
                    .filter_map(|patch| patch.at(&["operation", "value"]));
                for value in patches.collect::<Vec<_>>() {
                    self.find(value, &mut vec![document]);
                }
            }
            _ => {}
        }
        self.resources.push(resource);
    }

    /// Reads the files in a ConfigMap: Istio's mesh configuration, or an Envoy's configuration.
    fn take_config_map(&mut self, document: Node<'t>) {
        let data = document.get_exactly("data");
        for (key, text) in data.into_iter().flat_map(Node::entries) {
            let Some(Ok(tree)) = self.files.within(text) else {
                continue;
            };
            for document in tree.documents() {
                match kind::of(document, key, None) {
                    _ if key == "mesh" => self.meshes.push(document),
                    Kind::Mesh(mesh) => self.meshes.push(mesh),
                    Kind::Envoy => self.take_envoy(document),
                    Kind::Plugin(filter) => self.plugins.push(Plugin::alone(document, filter)),
                    Kind::Kubernetes(_) | Kind::OneOf(_) | Kind::Unknown => {}
                }
            }
        }
    }

    /// Adds the chain that an EnvoyFilter's patches make around a router.
    fn take_envoy_filter(&mut self, document: Node<'t>) {
        let patches = document
            .get("spec")
            .into_iter()
            .flat_map(|spec| spec.list("config_patches"));
        let mut chain = Manager {
            node: document,
            is_whole: false,
            filters: Vec::new(),
            upstream: Vec::new(),
            tracing: Tracing::Unknown,
            early: Vec::new(),
            inbound: None,
            routes: None,
        };
        let mut contexts = Vec::new();
        for patch in patches {
            let Some(value) = patch.at(&["patch", "value"]) else {
                continue;
            };
            let operation = patch.text_at(&["patch", "operation"]).unwrap_or_default();
            let before = self.plugins.len();
            match patch.text_at(&["apply_to"]) {
                Some("HTTP_FILTER") => self.patch_filter(&mut chain, value, operation),
                Some("NETWORK_FILTER") => {
                    let (_, config) = chain::typed(value);
                    if let Some(config) = config {
                        let piece = chain::manager(
                            config,
                            false,
                            Host::EnvoyFilter,
                            self.files,
                            &mut self.plugins,
                        );
                        chain.early.extend(piece.early.iter().copied());
                        self.managers.push(piece);
                    }
                }
                Some("EXTENSION_CONFIG") => {
                    let (kind, config) = chain::typed(value);
                    if let Some(config) = chain::wasm(kind, config) {
                        let plugin =
                            Plugin::of_envoy(config, Host::EnvoyFilter, Spot::Unknown, self.files);
                        self.plugins.extend(plugin);
                    }
                }
                Some("CLUSTER") => {
                    if let Some(list) = chain::upstream_of_cluster(value) {
                        let filters = chain::filters(
                            list.items(),
                            Spot::Upstream,
                            Host::EnvoyFilter,
                            self.files,
                            &mut self.plugins,
                        );
                        self.cluster_filters.push((list, filters));
                    }
                }
                _ => {}
            }
            if self.plugins.len() > before {
                contexts.push(patch.text_at(&["match", "context"]).unwrap_or_default());
            }
        }
        chain.inbound = match contexts.as_slice() {
            [] => None,
            all if all.iter().all(|context| *context == "SIDECAR_INBOUND") => Some(true),
            all if all.iter().all(|context| *context == "SIDECAR_OUTBOUND") => Some(false),
            _ => None,
        };
        self.managers.push(chain);
    }

    fn patch_filter(&mut self, chain: &mut Manager<'t>, value: Node<'t>, operation: &str) {
        let is_merge = operation.starts_with("MERGE");
        let filter = chain::filter(
            value,
            Spot::Listener,
            Host::EnvoyFilter,
            self.files,
            &mut self.plugins,
        );
        if filter.is_router() {
            let upstream = filter
                .config
                .into_iter()
                .flat_map(|router| router.list("upstream_http_filters"))
                .collect::<Vec<_>>();
            let upstream = chain::filters(
                upstream.into_iter(),
                Spot::Upstream,
                Host::EnvoyFilter,
                self.files,
                &mut self.plugins,
            );
            chain.upstream.extend(upstream);
            return;
        }
        match operation {
            "INSERT_FIRST" => chain.filters.insert(0, filter),
            _ if is_merge => {}
            _ => chain.filters.push(filter),
        }
    }

    /// The `tracing` parts of the Telemetry resources for the proxies of a resource. Those with its
    /// selector come first, as Istio prefers them.
    fn tracing_for(&self, resource: &Resource<'t>) -> Vec<Node<'t>> {
        let selector = resource.selector();
        let is_same = |own: &[(&str, Node<'t>)]| {
            own.len() == selector.len()
                && own.iter().all(|(key, value)| {
                    selector
                        .iter()
                        .any(|(other, wanted)| key == other && value.scalar() == wanted.scalar())
                })
        };
        let mut specific = Vec::new();
        let mut general = Vec::new();
        for telemetry in self.of_kind("Telemetry") {
            if !telemetry.may_share_namespace(resource) {
                continue;
            }
            let own = telemetry.selector();
            let spec = telemetry.spec();
            let entries = spec.into_iter().flat_map(|spec| spec.list("tracing"));
            if own.is_empty() {
                general.extend(entries);
            } else if is_same(&own) {
                specific.extend(entries);
            }
        }
        specific.extend(general);
        specific
    }

    /// The tracer that Istio's resources turn on for a plugin of Istio. `None` where the tracer
    /// cannot be seen.
    pub(crate) fn tracer_for(&self, resource: &Resource<'t>) -> Option<(Tracing<'t>, Node<'t>)> {
        for entry in self.tracing_for(resource) {
            if entry.get("disable_span_reporting").and_then(Node::bool) == Some(true) {
                return Some((Tracing::Off, entry));
            }
            let name = entry
                .list("providers")
                .find_map(|provider| provider.text_at(&["name"]));
            if let Some(tracer) = name.and_then(|name| self.provider(name)) {
                return Some((Tracing::On(tracer, entry), entry));
            }
        }
        let default = self.meshes.iter().find_map(|mesh| {
            let name = mesh.at(&["default_providers", "tracing"])?;
            let first = name.items().next().unwrap_or(name);
            let tracer = self.provider(first.scalar()?)?;
            Some((Tracing::On(tracer, first), first))
        });
        default.or_else(|| {
            let has_telemetry = !self.tracing_for(resource).is_empty();
            self.meshes
                .iter()
                .filter(|_| !has_telemetry)
                .find_map(|mesh| legacy_tracer(*mesh))
        })
    }

    /// The percentage of traces that Istio's resources set for a resource's proxies.
    pub(crate) fn percentage_for(&self, resource: &Resource<'t>) -> Option<Node<'t>> {
        self.tracing_for(resource)
            .into_iter()
            .find_map(|entry| entry.get("random_sampling_percentage"))
    }

    /// The tracer that Envoy Gateway's resources turn on; `None` where no EnvoyProxy is given.
    pub(crate) fn tracer_of_gateway(&self) -> Option<(Tracing<'t>, Node<'t>)> {
        let proxy = self.of_kind("EnvoyProxy").next()?;
        let Some(tracing) = proxy.node.at(&["spec", "telemetry", "tracing"]) else {
            return Some((Tracing::Off, proxy.node));
        };
        let tracer = match tracing.text_at(&["provider", "type"]) {
            Some("OpenTelemetry") | None => Tracer::OpenTelemetry,
            Some("Zipkin") => Tracer::Zipkin,
            Some("Datadog") => Tracer::Datadog,
            Some(_) => Tracer::Other,
        };
        Some((Tracing::On(tracer, tracing), tracing))
    }

    /// The tracer that a provider of the mesh configuration is.
    pub(crate) fn provider(&self, name: &str) -> Option<Tracer> {
        let provider = self
            .meshes
            .iter()
            .flat_map(|mesh| mesh.list("extension_providers"))
            .find(|provider| provider.text_at(&["name"]) == Some(name))?;
        if provider.get("opentelemetry").is_some() {
            return Some(Tracer::OpenTelemetry);
        }
        if let Some(zipkin) = provider.get("zipkin") {
            return Some(match zipkin.text_at(&["trace_context_option"]) {
                Some("USE_B3_WITH_W3C_PROPAGATION") => Tracer::ZipkinWithW3c,
                _ => Tracer::Zipkin,
            });
        }
        if provider.get("datadog").is_some() {
            return Some(Tracer::Datadog);
        }
        provider.get("skywalking").map(|_| Tracer::SkyWalking)
    }

    /// The resource that contains a plugin's node.
    pub(crate) fn resource_of(&self, node: Node<'t>) -> Option<&Resource<'t>> {
        let mut here = Some(node);
        while let Some(at) = here {
            if let Some(found) = self.resources.iter().find(|resource| resource.node == at) {
                return Some(found);
            }
            here = at.parent();
        }
        None
    }
}

/// The tracer of the proxies' bootstrap, which is on without a Telemetry resource and without a
/// default provider.
fn legacy_tracer(mesh: Node<'_>) -> Option<(Tracing<'_>, Node<'_>)> {
    if mesh.get("enable_tracing").and_then(Node::bool) == Some(false) {
        return None;
    }
    let tracing = mesh.at(&["default_config", "tracing"])?;
    let known = [
        ("zipkin", Tracer::Zipkin),
        ("datadog", Tracer::Datadog),
        ("lightstep", Tracer::Other),
    ];
    let (_, tracer) = known
        .into_iter()
        .find(|(key, _)| tracing.get(key).is_some())?;
    Some((Tracing::On(tracer, tracing), tracing))
}
