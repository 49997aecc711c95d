//! Which proxies of a mesh a plugin of Istio's is for.

use super::plugin::{Host, Plugin, Spot};
use super::{Model, Resource};
use crate::document::Node;
use crate::versions::Minor;

/// The directions of a request, and the kinds of proxies: a set of bits.
type Ways = u8;

const INBOUND: Ways = 1;
const OUTBOUND: Ways = 2;
const GATEWAY: Ways = 4;
const WAYPOINT: Ways = 8;
const NO_WAYPOINT: Ways = INBOUND | OUTBOUND | GATEWAY;

const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// The proxies of a plugin, and the requests there.
#[derive(Debug)]
pub(crate) struct Reach<'t> {
    kind: &'t str,
    name: &'t str,
    namespace: Option<&'t str>,
    /// Whether it is in the root namespace, and so for the whole mesh.
    is_for_mesh: bool,
    labels: Vec<(&'t str, &'t str)>,
    /// The kind, the name and the namespace of each target; without any it is for all workloads.
    targets: Vec<[Option<&'t str>; 3]>,
    /// The ways of requests, and the ports that they are limited to.
    ways: Vec<(Ways, Vec<&'t str>)>,
    is_upstream: bool,
    envoys: Option<(Minor, Minor)>,
    /// The workloads in the files that its labels choose, by their places, in order.
    workloads: Vec<usize>,
}

impl<'t> Reach<'t> {
    /// `None` where the plugin is not one of Istio's, or where nothing says that it is added.
    pub(crate) fn of(
        model: &Model<'t>,
        plugin: &Plugin<'t>,
        resource: &Resource<'t>,
    ) -> Option<Self> {
        let is_patch = resource.kind == "EnvoyFilter";
        let is_listed = plugin.spot != Spot::Unknown && plugin.host != Host::Envoy;
        let is_added = is_listed || is_patch && plugin.is_native();
        if !is_added || plugin.host == Host::Gateway {
            return None;
        }
        let spec = resource.spec()?;
        let mut roots = model.meshes.iter().copied();
        let root = roots.find_map(|mesh| mesh.text_at(&["root_namespace"]));
        let mut targets: Vec<_> = spec.list("target_refs").collect();
        targets.extend(spec.get("target_ref"));
        let labels = texts(resource.selector());
        let around = if targets.is_empty() {
            match labels.iter().any(|(key, _)| *key == GATEWAY_NAME) {
                true => GATEWAY,
                false => NO_WAYPOINT,
            }
        } else if targets.iter().all(|target| is_gateway(model, *target)) {
            GATEWAY
        } else {
            WAYPOINT
        };
        let ways = match is_patch {
            true => of_patches(plugin.node, spec)?,
            false => of_match(spec),
        };
        let ways: Vec<_> = ways
            .into_iter()
            .map(|(ways, ports)| (ways & around, ports))
            .filter(|(ways, _)| *ways != 0)
            .collect();
        let is_chosen = |own: &Resource<'t>| {
            let has = |key: &str| own.labels()?.get_exactly(key)?.scalar();
            own.is_workload()
                && own.may_share_namespace(resource)
                && labels.iter().all(|(key, value)| has(key) == Some(*value))
        };
        let workloads = model.resources.iter().enumerate();
        let workloads = workloads
            .filter(|(_, own)| !labels.is_empty() && is_chosen(own))
            .map(|(place, _)| place)
            .collect();
        Some(Self {
            kind: resource.kind,
            name: resource.name,
            namespace: resource.namespace,
            is_for_mesh: resource.namespace == Some(root.unwrap_or("istio-system")),
            labels,
            targets: targets
                .into_iter()
                .map(|target| ["kind", "name", "namespace"].map(|key| target.text_at(&[key])))
                .collect(),
            ways,
            is_upstream: plugin.spot == Spot::Upstream,
            envoys: model.versions(plugin.node).envoy(),
            workloads,
        })
    }

    /// The proxies that both are for, as words. `None` where there are none, or where the files do
    /// not tell that there are.
    pub(crate) fn shared(&self, other: &Self) -> Option<String> {
        let is_same_resource =
            self.name == other.name && self.namespace == other.namespace && self.kind == other.kind;
        // A resource of the same name is applied in the place of the other. Within one EnvoyFilter
        // there are several patches.
        if is_same_resource && self.kind != "EnvoyFilter"
            || self.is_upstream != other.is_upstream
            || !self.shares_versions(other)
            || !self.shares_ways(other)
        {
            return None;
        }
        let is_for_mesh = self.is_for_mesh || other.is_for_mesh;
        if self.namespace != other.namespace && !is_for_mesh {
            return None;
        }
        if !self.targets.is_empty() && !other.targets.is_empty() {
            let same = self.targets.iter().find(|one| other.targets.contains(one));
            return same.map(|[kind, name, _]| {
                let [kind, name] = [kind, name].map(|word| word.unwrap_or_default());
                format!("{kind} {name}")
            });
        }
        let (wide, narrow) = match (self.labels.len(), other.labels.len()) {
            (own, others) if own <= others => (self, other),
            _ => (other, self),
        };
        if let Some([_, name, _]) = self.targets.iter().chain(&other.targets).next() {
            // The pods of a Gateway have its name as a label, and others that are not known here.
            let of_gateway =
                |(key, value): &(&str, &str)| *key == GATEWAY_NAME && Some(*value) == *name;
            return narrow
                .labels
                .iter()
                .all(of_gateway)
                .then(|| format!("Gateway {}", name.unwrap_or_default()));
        }
        let mut wanted = wide.labels.iter();
        if !wanted.all(|label| narrow.labels.contains(label)) {
            // Labels of other keys may be on one pod: a workload in the files tells.
            let mut both = self.workloads.iter();
            return both
                .any(|place| other.workloads.binary_search(place).is_ok())
                .then(|| "pods with the labels of both".to_owned());
        }
        // Without a namespace in the files: gateways mostly have one of their own.
        let is_of_gateway = |(key, value): &(&str, &str)| {
            matches!(*key, "istio" | GATEWAY_NAME) || value.contains("gateway")
        };
        if wide.labels.is_empty()
            && self.namespace.is_none()
            && narrow.labels.iter().any(is_of_gateway)
        {
            return None;
        }
        let place = match is_for_mesh && self.namespace == other.namespace || wide.is_for_mesh {
            true => "of the mesh",
            false => "of the namespace",
        };
        Some(match narrow.labels.first() {
            None => format!("every workload {place}"),
            Some((key, value)) => format!("pods with {key}: {value}"),
        })
    }

    fn shares_versions(&self, other: &Self) -> bool {
        match (self.envoys, other.envoys) {
            (Some((first, last)), Some((oldest, newest))) => first <= newest && oldest <= last,
            _ => true,
        }
    }

    fn shares_ways(&self, other: &Self) -> bool {
        self.ways.iter().any(|(ways, ports)| {
            other.ways.iter().any(|(own, own_ports)| {
                let mut both = ports.iter().filter(|port| own_ports.contains(port));
                ways & own != 0
                    && (ports.is_empty() || own_ports.is_empty() || both.next().is_some())
            })
        })
    }
}

/// Whether a target is a Gateway in the files that is not a waypoint.
fn is_gateway(model: &Model<'_>, target: Node<'_>) -> bool {
    let name = target.text_at(&["name"]);
    target.text_at(&["kind"]) == Some("Gateway")
        && model.of_kind("Gateway").any(|gateway| {
            let class = gateway
                .spec()
                .and_then(|spec| spec.text_at(&["gateway_class_name"]));
            Some(gateway.name) == name && class.is_some_and(|class| class != "istio-waypoint")
        })
}

/// The `match` of a WasmPlugin or a TrafficExtension.
fn of_match(spec: Node<'_>) -> Vec<(Ways, Vec<&str>)> {
    let entries = spec.list("match").map(|entry| {
        let ways = match entry.text_at(&["mode"]) {
            Some("SERVER") => INBOUND | WAYPOINT,
            Some("CLIENT") => OUTBOUND | GATEWAY,
            _ => NO_WAYPOINT | WAYPOINT,
        };
        let ports = entry.list("ports");
        (
            ways,
            ports.filter_map(|port| port.text_at(&["number"])).collect(),
        )
    });
    let entries: Vec<_> = entries.collect();
    match entries.is_empty() {
        true => vec![(NO_WAYPOINT | WAYPOINT, Vec::new())],
        false => entries,
    }
}

/// The `match` of the patch of an EnvoyFilter that has the plugin; of an extension by name, that of
/// the patches that name it. `None` where the patch changes a filter that is there.
fn of_patches<'t>(plugin: Node<'t>, spec: Node<'t>) -> Option<Vec<(Ways, Vec<&'t str>)>> {
    let is_around = |value: Node<'t>| {
        let mut here = Some(plugin);
        while let Some(at) = here {
            if at == value {
                return true;
            }
            here = at.parent();
        }
        false
    };
    let patches: Vec<_> = spec.list("config_patches").collect();
    let own = *patches.iter().find(|patch| is_around(**patch))?;
    let value = own.at(&["patch", "value"])?;
    let operation = own.text_at(&["patch", "operation"]).unwrap_or_default();
    match own.text_at(&["apply_to"]) {
        Some("EXTENSION_CONFIG") => {
            let name = value.text_at(&["name"])?;
            let named = patches.iter().filter(|patch| {
                let value = patch.at(&["patch", "value"]);
                value.is_some_and(|value| names(value, name)) && **patch != own
            });
            Some(named.map(|patch| of_patch(*patch)).collect())
        }
        // The tracing of a connection manager is merged into it.
        Some("NETWORK_FILTER") => Some(vec![of_patch(own)]),
        Some("HTTP_FILTER") if operation == "MERGE" => {
            let is_router = value.text_at(&["name"]) == Some("envoy.filters.http.router");
            is_router.then(|| vec![of_patch(own)])
        }
        _ if operation == "ADD" || operation.starts_with("INSERT") => Some(vec![of_patch(own)]),
        _ => None,
    }
}

/// Whether a filter below the node asks for the extension `name`.
fn names(node: Node<'_>, name: &str) -> bool {
    let is_here = node.get("config_discovery").is_some() && node.text_at(&["name"]) == Some(name);
    let mut below = node.entries().map(|(_, value)| value).chain(node.items());
    is_here || below.any(|node| (node.is_map() || node.is_list()) && names(node, name))
}

fn of_patch(patch: Node<'_>) -> (Ways, Vec<&str>) {
    let ways = match patch.text_at(&["match", "context"]) {
        Some("SIDECAR_INBOUND") => INBOUND,
        Some("SIDECAR_OUTBOUND") => OUTBOUND,
        Some("GATEWAY") => GATEWAY,
        Some("WAYPOINT") => WAYPOINT,
        _ => NO_WAYPOINT | WAYPOINT,
    };
    let port = patch.text_at(&["match", "listener", "port_number"]);
    (ways, port.into_iter().collect())
}

fn texts<'t>(labels: Vec<(&'t str, Node<'t>)>) -> Vec<(&'t str, &'t str)> {
    let text = |(key, value): (&'t str, Node<'t>)| (key, value.scalar().unwrap_or_default());
    labels.into_iter().map(text).collect()
}
