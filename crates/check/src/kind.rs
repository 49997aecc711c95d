//! The kind of a document.

use crate::document::Node;
use crate::filter::Filter;
use crate::rules::suggest;

/// A document, by its kind.
#[derive(Clone, Debug)]
pub(crate) enum Kind<'t> {
    /// A resource of Kubernetes, with the last part of its `apiVersion`'s group and its `kind`.
    Kubernetes(&'t str),
    /// Envoy's configuration or a piece of it.
    Envoy,
    /// Istio's mesh configuration.
    Mesh(Node<'t>),
    /// The configuration of a plugin.
    Plugin(Filter),
    /// The configuration of one of several plugins.
    OneOf(Vec<Filter>),
    /// Something else.
    Unknown,
}

/// The filters whose configuration a document may be.
#[derive(Clone, Debug)]
pub(crate) enum Guess {
    None,
    One(Filter),
    Several(Vec<Filter>),
}

impl Guess {
    /// Whether it may be the configuration of this filter.
    pub(crate) fn has(&self, filter: Filter) -> bool {
        match self {
            Self::None => false,
            Self::One(one) => *one == filter,
            Self::Several(all) => all.contains(&filter),
        }
    }

    pub(crate) fn one(&self) -> Option<Filter> {
        match self {
            Self::One(filter) => Some(*filter),
            _ => None,
        }
    }
}

/// Finds the kind of `document`. `asked` is the filter that the command line names.
pub(crate) fn of<'t>(document: Node<'t>, name: &str, asked: Option<Filter>) -> Kind<'t> {
    let has = |key: &str| document.get(key).is_some();
    if let Some(kind) = document.get_exactly("kind").and_then(Node::scalar) {
        return Kind::Kubernetes(kind);
    }
    if let Some(mesh) = document.get_exactly("meshConfig") {
        return Kind::Mesh(mesh);
    }
    let mesh_keys = [
        "extensionProviders",
        "defaultProviders",
        "accessLogFormat",
        "enableTracing",
    ];
    if mesh_keys
        .iter()
        .any(|key| document.get_exactly(key).is_some())
    {
        return Kind::Mesh(document);
    }
    if let Some(filter) = asked.filter(|_| !is_envoy(document)) {
        return Kind::Plugin(filter);
    }
    if is_envoy(document)
        || has("configs") && document.list("configs").any(|c| c.type_url().is_some())
    {
        return Kind::Envoy;
    }
    match filter_of(document) {
        Guess::One(filter) => Kind::Plugin(filter),
        Guess::Several(filters) => {
            let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
            match Filter::within(file).filter(|filter| filters.contains(filter)) {
                Some(filter) => Kind::Plugin(filter),
                None => Kind::OneOf(filters),
            }
        }
        Guess::None => Kind::Unknown,
    }
}

/// Whether it is a part of Envoy's configuration.
fn is_envoy(document: Node<'_>) -> bool {
    const KEYS: [&str; 22] = [
        "static_resources",
        "dynamic_resources",
        "layered_runtime",
        "bootstrap_extensions",
        "stats_config",
        "filter_chains",
        "virtual_hosts",
        "http_filters",
        "upstream_http_filters",
        "custom_tags",
        "early_header_mutation_extensions",
        "request_headers_to_add",
        "request_headers_to_remove",
        "request_mutations",
        "typed_config",
        "load_assignment",
        "access_log",
        "vm_config",
        "config_discovery",
        "configuration",
        "resources",
        "tracing",
    ];
    if document.is_list() {
        return document.items().any(|item| item.is_map() && is_envoy(item));
    }
    document.type_url().is_some()
        || KEYS.iter().any(|key| match document.get(key) {
            // `access_log` is a stage of mesh_tracing too.
            Some(list) if *key == "access_log" => list.is_list(),
            Some(list) if *key == "resources" => list.items().any(|item| item.type_url().is_some()),
            Some(message) if *key == "configuration" => message.type_url().is_some(),
            found => found.is_some(),
        })
}

/// The filters whose configuration a map may be, by its keys.
pub(crate) fn filter_of(config: Node<'_>) -> Guess {
    if !config.is_map() {
        return Guess::None;
    }
    // The number of keys that are the filter's, and of keys that are not close to any of them.
    let count = |filter: Filter| {
        let Some((schema, defs)) = filter.schema() else {
            return (0, usize::MAX);
        };
        let properties = crate::rules::schema::properties(schema, defs);
        let names: Vec<_> = properties
            .into_iter()
            .flat_map(|keys| keys.keys().map(String::as_str))
            .collect();
        let (mut known, mut strange) = (0, 0);
        for (key, value) in config.entries() {
            // `rules` as a map, or `attributes` as a text, are of another tool.
            match properties.and_then(|keys| keys.get(key)) {
                Some(schema) if crate::rules::schema::has_shape(schema, defs, value) => known += 1,
                Some(_) => strange += 1,
                None => strange += usize::from(suggest::closest(key, &names).is_none()),
            }
        }
        (known, strange)
    };
    let counts = Filter::ALL.map(|filter| (count(filter), filter));
    let most = counts.iter().map(|((known, _), _)| *known).max();
    let best: Vec<_> = counts
        .into_iter()
        // Unknown keys up to half the number of known keys count as slips. With more of them it is
        // another document.
        .filter(|((known, strange), _)| Some(*known) == most && *known > 0 && *strange <= known / 2)
        .map(|(_, filter)| filter)
        .collect();
    match best.as_slice() {
        [] => Guess::None,
        [one] => Guess::One(*one),
        _ => Guess::Several(best),
    }
}
