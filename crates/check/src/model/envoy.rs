//! Envoy's own configuration: the bootstrap, resources of xDS, config dumps, and parts of them.

use std::collections::HashMap;

use super::Model;
use super::chain::{self, Tracing, manager, upstream_of_cluster};
use super::plugin::{Host, Plugin, Spot};
use crate::document::Node;

/// A cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cluster<'t> {
    pub(crate) node: Node<'t>,
    pub(crate) name: &'t str,
}

impl Cluster<'_> {
    /// Whether the cluster uses HTTP/2, where that can be seen.
    pub(crate) fn speaks_http2(&self) -> bool {
        let options = self.node.get("typed_extension_protocol_options");
        let http = options.and_then(|options| {
            options.get_exactly("envoy.extensions.upstreams.http.v3.HttpProtocolOptions")
        });
        let Some(http) = http else {
            return self.node.get("http2_protocol_options").is_some();
        };
        let explicit = |key: &str| {
            http.get("explicit_http_config")
                .and_then(|config| {
                    config
                        .entries()
                        .find(|(name, _)| name.replace('_', "").eq_ignore_ascii_case(key))
                })
                .is_some()
        };
        explicit("http2protocoloptions")
            || explicit("http3protocoloptions")
            || http.get("auto_config").is_some()
            || http.get("use_downstream_protocol_config").is_some()
    }

    /// The port of all its endpoints, where they have one.
    pub(crate) fn port(&self) -> Option<&str> {
        let groups = self.node.get("load_assignment")?.list("endpoints");
        let mut ports = groups
            .flat_map(|group| group.list("lb_endpoints"))
            .filter_map(|one| {
                one.text_at(&["endpoint", "address", "socket_address", "port_value"])
            });
        let first = ports.next()?;
        ports.all(|port| port == first).then_some(first)
    }

    pub(crate) fn is_original_dst(&self) -> bool {
        self.node.text_at(&["type"]) == Some("ORIGINAL_DST")
    }
}

impl<'t> Model<'t> {
    /// Reads a document of Envoy's configuration, also where its known parts are inside others.
    pub(super) fn take_envoy(&mut self, document: Node<'t>) {
        self.envoy.push(document);
        let mut whole = Vec::new();
        self.find(document, &mut whole);
        let input = document.input();
        let is_static = document.get("static_resources").is_some();
        let discovers = document.at(&["dynamic_resources", "cds_config"]).is_some();
        let is_dump = document.list("configs").any(|config| {
            config
                .type_url()
                .is_some_and(|kind| kind.ends_with("ClustersConfigDump"))
        });
        if is_static && !discovers || is_dump {
            self.complete.push(input);
        }
    }

    /// Finds connection managers, clusters and Wasm filters at any depth.
    pub(super) fn find(&mut self, node: Node<'t>, around: &mut Vec<Node<'t>>) {
        let kind = node.type_url().unwrap_or_default();
        let is_fragment = around.is_empty()
            && kind.is_empty()
            && [
                "http_filters",
                "tracing",
                "early_header_mutation_extensions",
            ]
            .iter()
            .any(|key| node.get(key).is_some())
            // A listener, and a bootstrap, which has a `tracing` of its own.
            && ["filter_chains", "static_resources", "dynamic_resources"]
                .iter()
                .all(|key| node.get(key).is_none());
        if kind.ends_with(".HttpConnectionManager") || is_fragment {
            let manager = manager(
                node,
                !is_fragment,
                Host::Envoy,
                self.files,
                &mut self.plugins,
            );
            self.managers.push(manager);
            return;
        }
        if let (kind, Some(config)) = chain::unwrapped(node)
            && !kind.is_empty()
            && let Some(config) = chain::wasm(kind, Some(config))
        {
            let plugin = Plugin::of_envoy(config, Host::Envoy, Spot::Unknown, self.files);
            self.plugins.extend(plugin);
            return;
        }
        let is_plugin = node.get("vm_config").is_some()
            || node
                .get("configuration")
                .is_some_and(|message| message.type_url().is_some());
        if around.is_empty() && is_plugin {
            let plugin = Plugin::of_envoy(node, Host::Envoy, Spot::Unknown, self.files);
            self.plugins.extend(plugin);
            return;
        }
        let is_cluster = kind.ends_with("cluster.v3.Cluster")
            || node.parent().and_then(Node::key) == Some("clusters")
            || around.is_empty() && node.get("load_assignment").is_some();
        if is_cluster && node.is_map() && node.get("name").is_some() {
            self.take_cluster(node);
            return;
        }
        if node.is_map() && node.get("upstream_http_filters").is_some() && !kind.is_empty() {
            // A router without a connection manager.
            let list = node.list("upstream_http_filters");
            let filters = chain::filters(
                list,
                Spot::Upstream,
                Host::Envoy,
                self.files,
                &mut self.plugins,
            );
            self.cluster_filters.push((node, filters));
            return;
        }
        if node.is_map() && node.get("virtual_hosts").is_some() {
            self.routes.push(node);
        }
        // A dump has the parts of the bootstrap also among the other parts.
        let is_bootstrap = kind.ends_with("BootstrapConfigDump")
            && node
                .parent()
                .is_some_and(|configs| configs.items().count() > 1);
        if is_bootstrap {
            return;
        }
        around.push(node);
        if node.is_map() {
            let is_active = node.get("active_state").is_some();
            for (key, value) in node.entries() {
                // A dump also has what is draining and what was refused.
                let is_past = match key {
                    "draining_state" | "error_state" => true,
                    "warming_state" => is_active,
                    _ => false,
                };
                if !is_past {
                    self.find_below(value, around);
                }
            }
        } else {
            for item in node.items() {
                self.find_below(item, around);
            }
        }
        around.pop();
    }

    fn find_below(&mut self, node: Node<'t>, around: &mut Vec<Node<'t>>) {
        if node.is_map() || node.is_list() {
            self.find(node, around);
        }
    }

    pub(super) fn take_cluster(&mut self, node: Node<'t>) {
        let Some(name) = node.text_at(&["name"]) else {
            return;
        };
        self.clusters.push(Cluster { node, name });
        if let Some(list) = upstream_of_cluster(node) {
            let filters = chain::filters(
                list.items(),
                Spot::Upstream,
                Host::Envoy,
                self.files,
                &mut self.plugins,
            );
            self.cluster_filters.push((list, filters));
        }
    }

    /// Sets the route configurations of connection managers that refer to them by name.
    pub(super) fn find_routes(&mut self) {
        for manager in &mut self.managers {
            if manager.routes.is_some() {
                continue;
            }
            let name = manager.node.text_at(&["rds", "route_config_name"]);
            let routes = &self.routes;
            manager.routes = name.and_then(|name| {
                routes
                    .iter()
                    .find(|routes| routes.text_at(&["name"]) == Some(name))
                    .copied()
            });
        }
    }

    /// Sets the plugins of discovered filters, by their name.
    pub(super) fn find_discovered(&mut self) {
        let discovered: HashMap<&str, usize> = self
            .plugins
            .iter()
            .enumerate()
            .filter(|(_, plugin)| plugin.host == Host::Envoy)
            .filter_map(|(place, plugin)| {
                let extension = plugin.node.parent().and_then(Node::parent)?;
                Some((extension.text_at(&["name"])?, place))
            })
            .collect();
        let lists = self
            .managers
            .iter_mut()
            .flat_map(|manager| [&mut manager.filters, &mut manager.upstream])
            .chain(self.cluster_filters.iter_mut().map(|(_, filters)| filters));
        for filter in lists.flatten() {
            if filter.node.get("config_discovery").is_none() {
                continue;
            }
            let Some(found) = discovered.get(filter.name).copied() else {
                continue;
            };
            // The default is in force no longer.
            let replaced = filter.plugin.replace(found);
            if let Some(plugin) = replaced.and_then(|place| self.plugins.get_mut(place)) {
                plugin.spot = Spot::Unknown;
            }
        }
    }

    /// Sets the tracer of the bootstrap, in connection managers with `tracing` but no provider.
    pub(super) fn find_bootstrap_tracers(&mut self) {
        for manager in &mut self.managers {
            let Some(tracing) = manager.node.get("tracing") else {
                continue;
            };
            if !matches!(manager.tracing, Tracing::Unknown) {
                continue;
            }
            let input = manager.node.input();
            let mut documents = self.envoy.iter().filter(|own| own.input() == input);
            let provider = documents.find_map(|document| {
                let dumped = || {
                    document
                        .list("configs")
                        .find_map(|config| config.at(&["bootstrap", "tracing", "http"]))
                };
                document.at(&["tracing", "http"]).or_else(dumped)
            });
            if let Some(provider) = provider {
                manager.tracing = Tracing::On(chain::provided(provider), tracing);
            }
        }
    }

    /// Sets the place of discovered plugins, from the filters that refer to them by name.
    pub(super) fn place_discovered(&mut self) {
        let mut upstream = Vec::new();
        let mut downstream = Vec::new();
        for manager in &self.managers {
            upstream.extend(&manager.upstream);
            downstream.extend(&manager.filters);
        }
        upstream.extend(self.cluster_filters.iter().flat_map(|(_, filters)| filters));
        for plugin in &mut self.plugins {
            if plugin.spot != Spot::Unknown || plugin.host == Host::Nobody {
                continue;
            }
            // The extension around the plugin's configuration, which has the name.
            let extension = plugin.node.parent().and_then(Node::parent);
            let Some(name) = extension.and_then(|extension| extension.text_at(&["name"])) else {
                continue;
            };
            let asks = |filter: &&chain::HttpFilter<'_>| {
                filter.name == name && filter.node.get("config_discovery").is_some()
            };
            plugin.spot = if upstream.iter().any(&asks) {
                Spot::Upstream
            } else if downstream.iter().any(asks) {
                Spot::Listener
            } else {
                Spot::Unknown
            };
        }
    }
}
