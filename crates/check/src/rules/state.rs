//! Filter state: which filters write it, and which tags and log formats read it.

use crate::document::Node;
use crate::filter::Filter;
use crate::finding::{Code, Findings};
use crate::model::chain::{Manager, Tracing};
use crate::model::plugin::{Host, Plugin};
use crate::model::{Model, Resource};

use super::suggest;

/// The filter state that `access_log_trace` writes.
const IDS: [&str; 9] = [
    "trace_id",
    "span_id",
    "parent_span_id",
    "trace_flags",
    "trace_format",
    "trace_id_datadog",
    "span_id_datadog",
    "trace_id_gcp",
    "trace_id_b3_64",
];

/// A `%FILTER_STATE(…)%` in a format.
struct Read<'t> {
    at: Node<'t>,
    key: &'t str,
    form: Option<&'t str>,
}

pub(super) fn check(model: &Model<'_>, findings: &mut Findings) {
    for manager in model.managers.iter().filter(|manager| manager.is_whole) {
        of_manager(model, manager, findings);
    }
    of_mesh(model, findings);
    // In parts of a configuration only the form of the reading is checked.
    let pieces = model.managers.iter().filter(|manager| !manager.is_whole);
    for read in pieces.flat_map(|piece| reads(piece.node)) {
        form(&read, findings);
    }
}

fn of_manager(model: &Model<'_>, manager: &Manager<'_>, findings: &mut Findings) {
    let filters = manager.filters.iter().chain(&manager.upstream);
    let plugins: Vec<_> = filters.filter_map(|filter| model.plugin(filter)).collect();
    // Whether other filters may write filter state of this kind.
    let is_open = manager
        .filters
        .iter()
        .chain(&manager.upstream)
        .any(|filter| {
            model.plugin(filter).is_none()
                && (filter.kind.ends_with("wasm.v3.Wasm")
                    || filter.node.get("config_discovery").is_some())
        })
        || manager.node.get("http_filters").is_none();
    let writers = Writers::of(&plugins);
    let mut reads = reads(manager.node);
    if let Some(routes) = manager.routes {
        reads.extend(self::reads(routes));
    }
    for read in &reads {
        form(read, findings);
        known(read, &writers, is_open, findings);
    }
    let tags: Vec<_> = manager
        .node
        .get("tracing")
        .into_iter()
        .chain(manager.routes)
        .flat_map(tags)
        .collect();
    for plugin in &plugins {
        if plugin.report().is_some() {
            continue;
        }
        let mut unread = unread_attributes(plugin, &reads, &tags);
        // An expression (CEL) has the key in quotes.
        unread.retain(|(key, _)| !mentions(manager.node, &format!("wasm.{key}")));
        let advice = match manager.tracing {
            Tracing::Off => "; the connection manager has no `tracing` either",
            _ => "",
        };
        for (key, at) in unread {
            let message = format!(
                "no tag and no log format reads wasm.{key}, so that it is on no span; add to \
                 tracing.custom_tags: {{tag: {key}, value: \
                 \"%FILTER_STATE(wasm.{key}:PLAIN)%\"}}{advice} (meshtrace render span-attributes \
                 CONFIG --envoy VERSION)"
            );
            findings.add(Code::NoTag, at, message);
        }
    }
}

/// Whether the resources of both nodes can be in one namespace.
fn may_share_namespace(one: Node<'_>, other: Node<'_>) -> bool {
    match (resource(one), resource(other)) {
        (Some(one), Some(other)) => one.may_share_namespace(&other),
        _ => true,
    }
}

/// The resource that a node is in.
fn resource(node: Node<'_>) -> Option<Resource<'_>> {
    let mut around = Some(node);
    while let Some(node) = around {
        if node.get("metadata").is_some() {
            return Some(Resource::new(node, ""));
        }
        around = node.parent();
    }
    None
}

fn of_mesh(model: &Model<'_>, findings: &mut Findings) {
    let plugins: Vec<_> = model
        .plugins
        .iter()
        .filter(|plugin| matches!(plugin.host, Host::Istio | Host::EnvoyFilter | Host::Gateway))
        .collect();
    let writers = Writers::of(&plugins);
    let mut tag_reads = Vec::new();
    let mut custom = Vec::new();
    for telemetry in model.of_kind("Telemetry") {
        let own = telemetry
            .spec()
            .into_iter()
            .flat_map(|spec| spec.list("tracing"));
        for entry in own {
            let tags = entry.get("custom_tags");
            tag_reads.extend(tags.into_iter().flat_map(reads));
            custom.extend(tags.into_iter().flat_map(Node::entries));
        }
    }
    let mut log_reads = Vec::new();
    for mesh in &model.meshes {
        log_reads.extend(reads(*mesh));
    }
    for proxy in model.of_kind("EnvoyProxy") {
        let telemetry = proxy.spec().and_then(|spec| spec.get("telemetry"));
        log_reads.extend(telemetry.into_iter().flat_map(reads));
    }
    for read in tag_reads.iter().chain(&log_reads) {
        form(read, findings);
    }
    let has_attributes = plugins
        .iter()
        .any(|plugin| plugin.has(Filter::SpanAttributes));
    for read in &tag_reads {
        known(
            read,
            &writers,
            !has_attributes || !model.refused.is_empty(),
            findings,
        );
    }
    logs_without_filter(model, &plugins, &log_reads, &writers, findings);
    if model.of_kind("Telemetry").next().is_none() {
        return;
    }
    for plugin in plugins
        .iter()
        .filter(|plugin| plugin.host == Host::Istio && plugin.report().is_none())
    {
        let is_for = |node: Node<'_>| may_share_namespace(plugin.node, node);
        let tags: Vec<_> = custom
            .iter()
            .filter(|(_, node)| is_for(*node))
            .map(|(name, node)| Tag {
                name,
                header: node.text_at(&["header", "name"]),
            })
            .collect();
        let own = tag_reads.iter().filter(|read| is_for(read.at));
        let all: Vec<_> = own.chain(&log_reads).collect();
        for (key, at) in unread_attributes_of(plugin, &all, &tags) {
            let message = format!(
                "no custom tag of a Telemetry of its namespace reads wasm.{key}, so that it is on no span; add to \
                 tracing[].customTags: {key}: {{formatter: {{value: \
                 \"%FILTER_STATE(wasm.{key}:PLAIN)%\"}}}} (meshtrace render span-attributes CONFIG \
                 --istio VERSION)"
            );
            findings.add(Code::NoTag, at, message);
        }
    }
}

/// Finds a log format of the mesh that is turned on and reads filter state that no filter writes.
fn logs_without_filter(
    model: &Model<'_>,
    plugins: &[&Plugin<'_>],
    reads: &[Read<'_>],
    writers: &Writers<'_>,
    findings: &mut Findings,
) {
    let is_on = model.of_kind("Telemetry").any(|telemetry| {
        telemetry
            .spec()
            .is_some_and(|spec| spec.get("access_logging").is_some())
    });
    if !is_on || plugins.is_empty() || writers.ids {
        return;
    }
    if let Some(read) = reads.iter().find(|read| is_id(read.key)) {
        findings.add(
            Code::LogWithoutFilter,
            read.at,
            "none of the plugins given with it writes the ids; add access_log_trace, or \
             `access_log` to mesh_tracing",
        );
    }
}

/// The filter state that plugins write.
struct Writers<'t> {
    attributes: Vec<&'t str>,
    ids: bool,
    /// Whether headers leave by filter state. Their names are not listed here.
    headers: bool,
    others: Vec<&'static str>,
}

impl<'t> Writers<'t> {
    fn of(plugins: &[&Plugin<'t>]) -> Self {
        let mut writers = Self {
            attributes: Vec::new(),
            ids: false,
            headers: false,
            others: Vec::new(),
        };
        for plugin in plugins {
            if plugin.has(Filter::SpanAttributes) && writes_state(plugin) {
                writers
                    .attributes
                    .extend(attributes(plugin).into_iter().map(|(key, _)| key));
            }
            writers.ids |= plugin.has(Filter::AccessLogTrace);
            writers.headers |= plugin.text("request_headers") == Some("filter_state");
            if plugin.has(Filter::TraceContext) || plugin.report().is_some() {
                writers.others.push("previous_trace_id");
            }
            if plugin.has(Filter::RouteSampling) {
                writers.others.push("sampling_decision");
            }
        }
        writers
    }

    fn all(&self) -> Vec<&str> {
        let ids = IDS.iter().filter(|_| self.ids);
        let others = self.others.iter().chain(ids).copied();
        self.attributes.iter().copied().chain(others).collect()
    }
}

fn writes_state(plugin: &Plugin<'_>) -> bool {
    let emit = plugin
        .stage(Filter::SpanAttributes)
        .and_then(|stage| stage.at(&["emit", "filter_state"]));
    emit.and_then(Node::bool) != Some(false)
}

/// The keys of attributes, with their nodes.
pub(super) fn attributes<'t>(plugin: &Plugin<'t>) -> Vec<(&'t str, Node<'t>)> {
    let stage = plugin.stage(Filter::SpanAttributes);
    match stage.and_then(|stage| stage.get("attributes")) {
        Some(list) => list
            .items()
            .filter_map(|attribute| {
                let key = attribute.get("key")?;
                Some((key.text()?, key))
            })
            .collect(),
        None => ["user.id", "tenant.id"]
            .into_iter()
            .map(|key| (key, plugin.written.unwrap_or(plugin.node)))
            .collect(),
    }
}

/// A custom tag.
struct Tag<'t> {
    name: &'t str,
    header: Option<&'t str>,
}

/// The custom tags anywhere below a node.
fn tags(node: Node<'_>) -> Vec<Tag<'_>> {
    let mut found = Vec::new();
    walk(node, &mut |node| {
        for tag in node.list("custom_tags") {
            found.push(Tag {
                name: tag.text_at(&["tag"]).unwrap_or_default(),
                header: tag.text_at(&["request_header", "name"]),
            });
        }
    });
    found
}

fn unread_attributes<'t>(
    plugin: &Plugin<'t>,
    reads: &[Read<'_>],
    tags: &[Tag<'_>],
) -> Vec<(&'t str, Node<'t>)> {
    unread_attributes_of(plugin, &reads.iter().collect::<Vec<_>>(), tags)
}

/// The attributes that leave only as filter state and that nothing reads.
fn unread_attributes_of<'t>(
    plugin: &Plugin<'t>,
    reads: &[&Read<'_>],
    tags: &[Tag<'_>],
) -> Vec<(&'t str, Node<'t>)> {
    if !plugin.has(Filter::SpanAttributes) || !writes_state(plugin) {
        return Vec::new();
    }
    let stage = plugin.stage(Filter::SpanAttributes);
    let emit = |key: &str| stage.and_then(|stage| stage.at(&["emit", key]));
    if emit("baggage").and_then(Node::bool) == Some(true) {
        return Vec::new();
    }
    let prefix = emit("request_header_prefix").and_then(Node::text);
    let is_read = |key: &str| {
        let by_state = reads
            .iter()
            .any(|read| read.key == key || read.key.strip_prefix("wasm.") == Some(key));
        let by_tag = tags.iter().any(|tag| {
            let header = prefix.map(|prefix| format!("{prefix}{}", key.replace('.', "-")));
            let by_header = tag.header.zip(header);
            tag.name == key
                || by_header.is_some_and(|(own, header)| own.eq_ignore_ascii_case(&header))
        });
        // The header of the attribute is for the application.
        by_state || by_tag || prefix.is_some()
    };
    attributes(plugin)
        .into_iter()
        .filter(|(key, _)| !is_read(key))
        .collect()
}

/// Checks the form in which filter state is read.
fn form(read: &Read<'_>, findings: &mut Findings) {
    if read.key.starts_with("wasm.") && read.form != Some("PLAIN") {
        let message = format!(
            "without :PLAIN this is an object with the value in Base64; write \
             %FILTER_STATE({}:PLAIN)%",
            read.key
        );
        findings.add(Code::WithoutPlain, read.at, message);
    }
}

/// Checks whether a filter writes what is read.
fn known(read: &Read<'_>, writers: &Writers<'_>, is_open: bool, findings: &mut Findings) {
    let all = writers.all();
    let Some(key) = read.key.strip_prefix("wasm.") else {
        if all.contains(&read.key) {
            let message = format!(
                "the filter's state begins with `wasm.`: write %FILTER_STATE(wasm.{}:PLAIN)%",
                read.key
            );
            findings.add(Code::TagWithoutWasm, read.at, message);
        }
        return;
    };
    if is_open || writers.headers || all.contains(&key) {
        return;
    }
    if IDS.contains(&key) {
        let message = format!(
            "no filter here writes wasm.{key}; add access_log_trace, or `access_log` to \
             mesh_tracing"
        );
        findings.add(Code::LogWithoutFilter, read.at, message);
        return;
    }
    let advice = match suggest::closest(key, &all) {
        Some(close) => format!("did you mean wasm.{close}?"),
        None if all.is_empty() => "add the attribute to span_attributes, or remove this".to_owned(),
        None => {
            let names = all.iter().map(|name| format!("wasm.{name}")).collect();
            format!("written here: {}", suggest::list(names))
        }
    };
    findings.add(
        Code::NobodyWrites,
        read.at,
        format!("no filter here writes wasm.{key}; {advice}"),
    );
}

fn is_id(key: &str) -> bool {
    key.strip_prefix("wasm.")
        .is_some_and(|key| IDS.contains(&key))
}

/// All reads of filter state in formats below a node, without the plugins' own configurations.
fn reads(node: Node<'_>) -> Vec<Read<'_>> {
    let mut found = Vec::new();
    walk(node, &mut |node| {
        let Some(text) = node.scalar() else { return };
        for part in text.split("FILTER_STATE(").skip(1) {
            let Some((inner, _)) = part.split_once(')') else {
                continue;
            };
            let mut parts = inner.split(':');
            found.push(Read {
                at: node,
                key: parts.next().unwrap_or_default(),
                form: parts.next(),
            });
        }
    });
    found
}

/// Whether a text below a node contains `word`.
fn mentions(node: Node<'_>, word: &str) -> bool {
    let mut found = false;
    walk(node, &mut |node| {
        found |= node.scalar().is_some_and(|text| text.contains(word))
    });
    found
}

/// Visits every node below one, except the plugins' configurations.
fn walk<'t>(node: Node<'t>, visit: &mut impl FnMut(Node<'t>)) {
    if node.key() == Some("configuration") {
        return;
    }
    visit(node);
    for (_, value) in node.entries() {
        walk(value, visit);
    }
    for item in node.items() {
        walk(item, visit);
    }
}
