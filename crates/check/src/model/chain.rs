//! HTTP connection managers: their filters in order, their tracer, and the settings around both.

use super::plugin::{Host, Plugin, Spot};
use crate::document::Node;
use crate::files::Files;

/// The proxy's own tracer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracer {
    OpenTelemetry,
    /// Zipkin with `USE_B3`, its default.
    Zipkin,
    /// Zipkin with `USE_B3_WITH_W3C_PROPAGATION`.
    ZipkinWithW3c,
    Datadog,
    SkyWalking,
    Other,
}

impl Tracer {
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::OpenTelemetry => "the OpenTelemetry tracer",
            Self::Zipkin => "the Zipkin tracer with USE_B3",
            Self::ZipkinWithW3c => "the Zipkin tracer with USE_B3_WITH_W3C_PROPAGATION",
            Self::Datadog => "the Datadog tracer",
            Self::SkyWalking => "the SkyWalking tracer",
            Self::Other => "the tracer",
        }
    }

    /// The formats that the tracer reads; `None` where they are not known.
    pub(crate) const fn reads(self) -> Option<&'static [&'static str]> {
        match self {
            Self::OpenTelemetry => Some(&["tracecontext"]),
            Self::Zipkin => Some(&["b3", "b3multi"]),
            Self::ZipkinWithW3c => Some(&["b3", "b3multi", "tracecontext"]),
            Self::Datadog => Some(&["datadog", "tracecontext"]),
            Self::SkyWalking | Self::Other => None,
        }
    }

    /// The formats that the tracer may write.
    pub(crate) const fn writes(self) -> Option<&'static [&'static str]> {
        self.reads()
    }
}

/// The proxy's own tracing, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tracing<'t> {
    /// The tracing cannot be seen.
    Unknown,
    Off,
    /// The tracer, and the message `tracing`.
    On(Tracer, Node<'t>),
}

/// The kind of an early header mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Early {
    /// The mutation makes the headers that the tracer reads.
    Context,
    /// The mutation of `route_sampling`.
    Sampling,
    Other,
}

/// A filter in a list.
#[derive(Clone, Debug)]
pub(crate) struct HttpFilter<'t> {
    pub(crate) node: Node<'t>,
    pub(crate) name: &'t str,
    /// The message of the filter's configuration: the part of its type after the last slash. It is
    /// empty where there is no message.
    pub(crate) kind: &'t str,
    /// The fields of that message.
    pub(crate) config: Option<Node<'t>>,
    /// The plugin of meshtrace that the filter is, by its place among all plugins.
    pub(crate) plugin: Option<usize>,
    pub(crate) disabled: bool,
}

impl HttpFilter<'_> {
    pub(crate) fn is_router(&self) -> bool {
        self.kind.ends_with(".router.v3.Router") || self.name == "envoy.filters.http.router"
    }

    /// Whether it is Envoy's own filter `filter`, by its kind, or by its name where the kind is
    /// unknown.
    pub(crate) fn is(&self, filter: &str) -> bool {
        let kind = self.kind.split(".filters.http.").nth(1);
        match kind.and_then(|kind| kind.split('.').next()) {
            Some(kind) => kind == filter,
            None => self.name.strip_prefix("envoy.filters.http.") == Some(filter),
        }
    }
}

/// An HTTP connection manager.
#[derive(Clone, Debug)]
pub(crate) struct Manager<'t> {
    pub(crate) node: Node<'t>,
    /// Whether the whole connection manager is here. A patch has only a part of it.
    pub(crate) is_whole: bool,
    pub(crate) filters: Vec<HttpFilter<'t>>,
    /// The upstream filters of the router.
    pub(crate) upstream: Vec<HttpFilter<'t>>,
    pub(crate) tracing: Tracing<'t>,
    /// The early header mutations in order, each with its kind.
    pub(crate) early: Vec<(Node<'t>, Early)>,
    /// The `traffic_direction` of its listener: true for inbound.
    pub(crate) inbound: Option<bool>,
    /// The route configuration, where it is part of the connection manager.
    pub(crate) routes: Option<Node<'t>>,
}

/// Reads a list of filters.
pub(super) fn filters<'t>(
    list: impl Iterator<Item = Node<'t>>,
    spot: Spot,
    host: Host,
    files: &'t Files,
    plugins: &mut Vec<Plugin<'t>>,
) -> Vec<HttpFilter<'t>> {
    list.map(|node| filter(node, spot, host, files, plugins))
        .collect()
}

pub(super) fn filter<'t>(
    node: Node<'t>,
    spot: Spot,
    host: Host,
    files: &'t Files,
    plugins: &mut Vec<Plugin<'t>>,
) -> HttpFilter<'t> {
    let (kind, config) = match node.get("config_discovery") {
        Some(discovery) => discovered(discovery),
        None => typed(node),
    };
    let plugin = wasm(kind, config)
        .and_then(|config| Plugin::of_envoy(config, host, spot, files))
        .map(|plugin| {
            plugins.push(plugin);
            plugins.len() - 1
        });
    if let Some(config) = config.filter(|_| kind.ends_with(".ExtensionWithMatcher")) {
        chosen(config, host, spot, files, plugins);
    }
    HttpFilter {
        node,
        name: node.text_at(&["name"]).unwrap_or_default(),
        kind,
        config,
        plugin,
        disabled: node.get("disabled").and_then(Node::bool) == Some(true),
    }
}

/// The plugin's part of a Wasm filter's configuration.
pub(super) fn wasm<'t>(kind: &str, config: Option<Node<'t>>) -> Option<Node<'t>> {
    if !kind.ends_with("filters.http.wasm.v3.Wasm") {
        return None;
    }
    config?.get("config")
}

/// The message of `typed_config`: its type without the URL, and its fields.
pub(crate) fn typed(node: Node<'_>) -> (&str, Option<Node<'_>>) {
    let Some(config) = node.get("typed_config") else {
        return ("", None);
    };
    unwrapped(config)
}

/// Reads the plugins that a matcher chooses for a request: those of Envoy's `composite`.
fn chosen<'t>(
    node: Node<'t>,
    host: Host,
    spot: Spot,
    files: &'t Files,
    plugins: &mut Vec<Plugin<'t>>,
) {
    let (kind, message) = unwrapped(node);
    if let Some(config) = wasm(kind, message) {
        plugins.extend(Plugin::of_envoy(config, host, spot, files));
        return;
    }
    let below = node.entries().map(|(_, value)| value).chain(node.items());
    for node in below.filter(|node| node.is_map() || node.is_list()) {
        chosen(node, host, spot, files, plugins);
    }
}

/// What a filter has until its discovered configuration comes: the message of `default_config`, or
/// the only type that it may have.
fn discovered(discovery: Node<'_>) -> (&str, Option<Node<'_>>) {
    if let Some(config) = discovery.get("default_config") {
        return unwrapped(config);
    }
    let mut types = discovery.list("type_urls").filter_map(Node::scalar);
    match (types.next(), types.next()) {
        (Some(only), None) => (only.rsplit('/').next().unwrap_or(only), None),
        _ => ("", None),
    }
}

/// A message with `@type`, also within a `TypedStruct`.
pub(crate) fn unwrapped(config: Node<'_>) -> (&str, Option<Node<'_>>) {
    let kind = config.type_url().unwrap_or_default();
    if !kind.ends_with("TypedStruct") {
        return (kind, Some(config));
    }
    let url = config.text_at(&["type_url"]).unwrap_or_default();
    (url.rsplit('/').next().unwrap_or(url), config.get("value"))
}

/// The HTTP filters of a cluster.
pub(super) fn upstream_of_cluster(cluster: Node<'_>) -> Option<Node<'_>> {
    let options = cluster.get("typed_extension_protocol_options")?;
    let http = options.get_exactly("envoy.extensions.upstreams.http.v3.HttpProtocolOptions")?;
    http.get("http_filters")
}

/// Reads the message `tracing` of a connection manager, or of a fragment.
pub(crate) fn tracer(tracing: Node<'_>) -> Option<Tracer> {
    tracing.get("provider").map(provided)
}

/// The tracer that a provider is: a name, and the message of its configuration.
pub(super) fn provided(provider: Node<'_>) -> Tracer {
    let (kind, config) = typed(provider);
    let name = provider.text_at(&["name"]).unwrap_or_default();
    let word = kind
        .rsplit('.')
        .next()
        .filter(|kind| !kind.is_empty())
        .unwrap_or(name);
    let word = word.to_ascii_lowercase();
    if word.contains("opentelemetry") {
        Tracer::OpenTelemetry
    } else if word.contains("zipkin") {
        let option = config.and_then(|config| config.text_at(&["trace_context_option"]));
        match option {
            Some("USE_B3_WITH_W3C_PROPAGATION" | "1") => Tracer::ZipkinWithW3c,
            _ => Tracer::Zipkin,
        }
    } else if word.contains("datadog") {
        Tracer::Datadog
    } else if word.contains("skywalking") {
        Tracer::SkyWalking
    } else {
        Tracer::Other
    }
}

/// Reads a connection manager.
pub(super) fn manager<'t>(
    node: Node<'t>,
    is_whole: bool,
    host: Host,
    files: &'t Files,
    plugins: &mut Vec<Plugin<'t>>,
) -> Manager<'t> {
    let mut manager = Manager {
        node,
        is_whole,
        filters: Vec::new(),
        upstream: Vec::new(),
        tracing: match node.get("tracing") {
            Some(tracing) => match tracer(tracing) {
                Some(tracer) => Tracing::On(tracer, tracing),
                // Without a provider, the tracer is that of the bootstrap.
                None => Tracing::Unknown,
            },
            None if is_whole => Tracing::Off,
            None => Tracing::Unknown,
        },
        early: early(node),
        inbound: None,
        routes: node.get("route_config"),
    };
    if let Tracing::On(Tracer::Other, tracing) = manager.tracing
        && let Some(config) = tracing
            .get("provider")
            .and_then(|provider| typed(provider).1)
    {
        plugins.extend(Plugin::of_native(config, files));
    }
    manager.filters = filters(
        node.list("http_filters"),
        Spot::Listener,
        host,
        files,
        plugins,
    );
    manager.inbound = direction(node);
    let routers = manager.filters.iter().filter(|filter| filter.is_router());
    let lists = routers.filter_map(|router| router.config);
    let upstream = lists.flat_map(|router| router.list("upstream_http_filters"));
    manager.upstream = filters(
        upstream.collect::<Vec<_>>().into_iter(),
        Spot::Upstream,
        host,
        files,
        plugins,
    );
    manager
}

/// The early header mutations of a connection manager.
pub(super) fn early(node: Node<'_>) -> Vec<(Node<'_>, Early)> {
    node.list("early_header_mutation_extensions")
        .map(|extension| (extension, early_kind(extension)))
        .collect()
}

fn early_kind(extension: Node<'_>) -> Early {
    let mutations = || {
        let (_, config) = typed(extension);
        config
            .into_iter()
            .flat_map(|config| config.list("mutations"))
    };
    let written = |name: &str| {
        mutations().any(|mutation| {
            let key = mutation.text_at(&["append", "header", "key"]);
            key.is_some_and(|key| key.eq_ignore_ascii_case(name))
        })
    };
    let removed = |name: &str| {
        mutations().any(|mutation| {
            let key = mutation.text_at(&["remove"]);
            key.is_some_and(|key| key.eq_ignore_ascii_case(name))
        })
    };
    let trace_headers = ["traceparent", "b3", "x-b3-traceid"];
    let name = extension.text_at(&["name"]).unwrap_or_default();
    if name.contains("route-sampling") || name.contains("route_sampling") {
        Early::Sampling
    } else if trace_headers
        .iter()
        .any(|name| written(name) || removed(name))
    {
        Early::Context
    } else if removed("x-client-trace-id") && written("x-client-trace-id") {
        Early::Sampling
    } else {
        Early::Other
    }
}

/// The `traffic_direction` of the listener around a node: true for inbound.
fn direction(node: Node<'_>) -> Option<bool> {
    let mut here = node.parent();
    while let Some(around) = here {
        if around.is_map() {
            match around.text_at(&["traffic_direction"]) {
                Some("INBOUND") => return Some(true),
                Some("OUTBOUND") => return Some(false),
                _ => {}
            }
        }
        here = around.parent();
    }
    None
}
