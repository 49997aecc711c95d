//! The names by which a proxy's spans are found: the name of its service, and its node.

use meshtrace_config::ConfigError;

use crate::attributes::Attributes;
use crate::limits::MAX_VALUE;
use crate::resource::{MAX_NODE_VALUE, Node};

/// "If the value was not specified, SDKs MUST fallback to `unknown_service:` concatenated with
/// `process.executable.name` … If `process.executable.name` is not available, the value MUST be set
/// to `unknown_service`" (OpenTelemetry semantic conventions, `service.name`).
pub(crate) const UNKNOWN_SERVICE: &str = "unknown_service";

/// The most that the attributes of [`node_attributes`] take, in bytes of their encoding: seven
/// values with their keys, and two short ones.
pub(crate) const MAX_NODE_ATTRIBUTES: usize = 7 * (MAX_VALUE + 48) + 2 * 32;

/// The name of the service, as `report.service_name` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ServiceName {
    /// [`Istio`](Self::Istio) at a node of Istio, and [`Canonical`](Self::Canonical) elsewhere.
    #[default]
    Auto,
    /// `APP.NAMESPACE`, which is the name that Istio's own tracers use.
    Istio,
    /// Istio's canonical service, and without that label the application, the workload or the
    /// cluster of the node.
    Canonical,
    /// This text.
    Text(String),
}

impl ServiceName {
    /// Reads the text of the configuration.
    ///
    /// # Errors
    /// When the text is empty or longer than 512 bytes.
    pub fn new(written: Option<&str>) -> Result<Self, ConfigError> {
        match written {
            None => Ok(Self::Auto),
            Some("istio") => Ok(Self::Istio),
            Some("canonical") => Ok(Self::Canonical),
            Some(text) if (1..=MAX_NODE_VALUE).contains(&text.len()) => {
                Ok(Self::Text(text.to_owned()))
            }
            Some(text) => Err(ConfigError::new(
                "service_name",
                format!(
                    "invalid length: {} bytes, expected \"istio\", \"canonical\" or a name of 1 to \
                     {MAX_NODE_VALUE} bytes",
                    text.len()
                ),
            )),
        }
    }

    /// The name at this `node`.
    pub(crate) fn at(&self, node: Node<'_>) -> String {
        let name = match self {
            Self::Text(text) => return text.clone(),
            Self::Istio => name_of_istio(node),
            Self::Auto if is_istio(node) => name_of_istio(node),
            Self::Auto | Self::Canonical => None,
        };
        name.or_else(|| canonical_name(node))
            .unwrap_or_else(|| UNKNOWN_SERVICE.to_owned())
    }
}

/// The text at `path`, cut at `limit` bytes. A value that the host does not have is empty or
/// absent.
pub(crate) fn text_of(node: Node<'_>, path: &[&str], limit: usize) -> Option<String> {
    let mut text = node(path)?;
    text.truncate(text.floor_char_boundary(limit));
    (!text.is_empty()).then_some(text)
}

fn label(node: Node<'_>, name: &str) -> Option<String> {
    node(&["metadata", "LABELS", name])
}

const APP: &str = "app";
const APP_NAME: &str = "app.kubernetes.io/name";
const CANONICAL_NAME: &str = "service.istio.io/canonical-name";

fn canonical_name(node: Node<'_>) -> Option<String> {
    let labels = [CANONICAL_NAME, APP_NAME, APP];
    labels
        .iter()
        .find_map(|name| label(node, name))
        .or_else(|| node(&["metadata", "WORKLOAD_NAME"]))
        .or_else(|| node(&["cluster"]))
}

/// Whether the node is a proxy of Istio: Istio's agent writes its version into the metadata, and
/// the kind of the proxy into the id.
fn is_istio(node: Node<'_>) -> bool {
    let id = node(&["id"]).unwrap_or_default();
    let kinds = ["sidecar~", "router~", "waypoint~"];
    kinds.iter().any(|kind| id.starts_with(kind)) || node(&["metadata", "ISTIO_VERSION"]).is_some()
}

/// The name that Istio's agent gives to the cluster of the node, by which Istio's own tracers name
/// the service (`getServiceCluster` in `pkg/bootstrap/config.go` of Istio). It is computed from the
/// labels unless `proxyConfig` asks for another name: proxies of an old agent have `istio-proxy` as
/// their cluster.
fn name_of_istio(node: Node<'_>) -> Option<String> {
    let proxy_config = |key| node(&["metadata", "PROXY_CONFIG", key]);
    let is_other = |key, default| proxy_config(key).is_some_and(|value| value != default);
    let cluster = node(&["cluster"]);
    if is_other("serviceCluster", ISTIO_PROXY)
        || is_other("tracingServiceName", "APP_LABEL_AND_NAMESPACE")
    {
        return cluster;
    }
    let labels = [APP, APP_NAME, CANONICAL_NAME];
    let app = labels
        .iter()
        .find_map(|name| label(node, name))
        .or_else(|| node(&["metadata", "WORKLOAD_NAME"]));
    let namespace = node(&["metadata", "NAMESPACE"]);
    match (app, namespace) {
        (Some(app), Some(namespace)) => Some(format!("{app}.{namespace}")),
        (None, Some(namespace)) => cluster.or_else(|| Some(format!("{ISTIO_PROXY}.{namespace}"))),
        (app, None) => cluster.or(app),
    }
}

const ISTIO_PROXY: &str = "istio-proxy";

/// The attributes that every span has of the node.
#[derive(Clone, Debug, Default)]
pub struct NodeAttributes {
    encoded: Attributes,
    keys: Vec<&'static str>,
}

impl NodeAttributes {
    /// The attributes, encoded.
    #[must_use]
    pub fn attributes(&self) -> &Attributes {
        &self.encoded
    }

    /// Whether `key` is among them.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }
}

/// Reads the attributes that every span has of the node. `node_id` has the name that it has on the spans
/// of Envoy's own tracers: the searches of Jaeger's and Kiali's users ask for it. The others are
/// for `envoy_attributes`: what Istio and Envoy put on every span.
pub(crate) fn node_attributes(
    node: Node<'_>,
    has_envoy_attributes: bool,
    is_taken: &dyn Fn(&str) -> bool,
) -> NodeAttributes {
    let mut attributes = NodeAttributes::default();
    let mut add = |key: &'static str, value: Option<String>| {
        if let Some(value) = value.filter(|_| !is_taken(key)) {
            let encoded = &mut attributes.encoded;
            encoded.text_up_to(key, value.as_bytes(), MAX_VALUE);
            attributes.keys.push(key);
        }
    };
    let read = |path: &[&str]| text_of(node, path, MAX_VALUE);
    let label_of = |name| read(&["metadata", "LABELS", name]);
    add("node_id", read(&["id"]));
    if has_envoy_attributes {
        add("component", Some("proxy".to_owned()));
        add("zone", read(&["locality", "zone"]));
        add("istio.canonical_service", label_of(CANONICAL_NAME));
        let revision = "service.istio.io/canonical-revision";
        add("istio.canonical_revision", label_of(revision));
        for (key, name) in [
            ("istio.mesh_id", "MESH_ID"),
            ("istio.namespace", "NAMESPACE"),
            ("istio.cluster_id", "CLUSTER_ID"),
        ] {
            add(key, read(&["metadata", name]));
        }
    }
    attributes
}
