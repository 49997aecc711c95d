//! The parts of all files: connection managers, clusters, and the resources of a mesh.

pub(crate) mod chain;
mod envoy;
mod mesh;
pub(crate) mod plugin;
pub(crate) mod reach;
pub(crate) mod resource;

use crate::document::Node;
use crate::files::{Files, Input};
use crate::filter::Filter;
use crate::kind::{self, Kind};
use crate::versions::Versions;

use chain::Manager;
pub(crate) use envoy::Cluster;
use plugin::Plugin;
pub(crate) use resource::Resource;

/// Everything that the rules look at.
#[derive(Debug)]
pub(crate) struct Model<'t> {
    pub(crate) files: &'t Files,
    /// The versions from the command line.
    asked: Versions,
    pub(crate) plugins: Vec<Plugin<'t>>,
    /// The places of plugins whose configuration is refused. What such a configuration does not
    /// contain has no consequence.
    pub(crate) refused: Vec<usize>,
    pub(crate) managers: Vec<Manager<'t>>,
    /// Lists of upstream filters of clusters, with their nodes.
    pub(crate) cluster_filters: Vec<(Node<'t>, Vec<chain::HttpFilter<'t>>)>,
    pub(crate) clusters: Vec<Cluster<'t>>,
    /// The inputs that contain all their clusters.
    pub(crate) complete: Vec<usize>,
    /// Route configurations on their own.
    pub(crate) routes: Vec<Node<'t>>,
    pub(crate) resources: Vec<Resource<'t>>,
    /// The mesh configurations of Istio.
    pub(crate) meshes: Vec<Node<'t>>,
    /// Documents that may be configurations of several filters, with these filters.
    pub(crate) unsure: Vec<(Node<'t>, Vec<Filter>)>,
    /// Documents with no known part.
    pub(crate) unknown: Vec<Node<'t>>,
    /// Every document of Envoy's configuration.
    pub(crate) envoy: Vec<Node<'t>>,
}

impl<'t> Model<'t> {
    pub(crate) fn new(
        files: &'t Files,
        inputs: &[Input],
        asked_filter: Option<Filter>,
        asked: Versions,
    ) -> Self {
        let mut model = Self {
            files,
            asked,
            plugins: Vec::new(),
            refused: Vec::new(),
            managers: Vec::new(),
            cluster_filters: Vec::new(),
            clusters: Vec::new(),
            complete: Vec::new(),
            routes: Vec::new(),
            resources: Vec::new(),
            meshes: Vec::new(),
            unsure: Vec::new(),
            unknown: Vec::new(),
            envoy: Vec::new(),
        };
        for tree in &files.trees {
            for document in tree.documents() {
                let name = inputs.get(document.input()).map_or("", |input| &input.name);
                model.take(document, name, asked_filter);
            }
        }
        model.place_discovered();
        model.find_discovered();
        model.find_routes();
        model.find_bootstrap_tracers();
        model
    }

    fn take(&mut self, document: Node<'t>, name: &str, asked: Option<Filter>) {
        if document.is_null()
            || document.is_map() && document.entries().next().is_none() && asked.is_none()
        {
            return;
        }
        match kind::of(document, name, asked) {
            // `List` of kubectl, and the lists of the API server: `WasmPluginList`.
            Kind::Kubernetes(kind) if kind.ends_with("List") => {
                for item in document.list("items") {
                    self.take(item, name, None);
                }
            }
            Kind::Kubernetes(kind) => self.take_resource(document, kind),
            Kind::Envoy => self.take_envoy(document),
            Kind::Mesh(mesh) => self.meshes.push(mesh),
            Kind::Plugin(filter) => self.plugins.push(Plugin::alone(document, filter)),
            Kind::OneOf(filters) => self.unsure.push((document, filters)),
            Kind::Unknown => self.unknown.push(document),
        }
    }

    /// Whether no file has any known part.
    pub(crate) fn knows_nothing(&self) -> bool {
        self.plugins.is_empty()
            && self.envoy.is_empty()
            && self.resources.is_empty()
            && self.meshes.is_empty()
            && self.unsure.is_empty()
    }

    /// The versions for which a node is, as far as they are known.
    pub(crate) fn versions(&self, node: Node<'_>) -> Versions {
        let of_file = self.files.versions.get(node.input()).copied();
        self.asked.or(of_file.unwrap_or_default())
    }

    /// The plugin of a filter; `None` where the plugin's configuration is refused.
    pub(crate) fn plugin(&self, filter: &chain::HttpFilter<'t>) -> Option<&Plugin<'t>> {
        let place = filter
            .plugin
            .filter(|place| !self.refused.contains(place))?;
        self.plugins.get(place)
    }

    /// The plugins whose configuration is accepted.
    pub(crate) fn taken(&self) -> impl Iterator<Item = &Plugin<'t>> {
        let is_taken = |(place, _): &(usize, &Plugin<'t>)| !self.refused.contains(place);
        self.plugins
            .iter()
            .enumerate()
            .filter(is_taken)
            .map(|(_, plugin)| plugin)
    }

    /// The resources of a kind.
    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Resource<'t>> {
        self.resources
            .iter()
            .filter(move |resource| resource.kind == kind)
    }
}
