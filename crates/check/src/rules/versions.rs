//! Settings that a version of Envoy or Istio does not have.

use crate::document::Node;
use crate::finding::{Code, Findings};
use crate::model::Model;
use crate::model::chain::HttpFilter;

const ENVOY: (u32, u32) = (36, 40);
const ISTIO: (u32, u32) = (28, 31);

/// Fields of `tracing` in a connection manager or a route, with the first version that has them.
const TRACING: [(&str, u32); 3] = [
    ("operation", 37),
    ("upstream_operation", 37),
    ("no_context_propagation", 38),
];

pub(super) fn check(model: &Model<'_>, findings: &mut Findings) {
    for tree in &model.files.trees {
        let has_span_id = tree.source().contains("%SPAN_ID%");
        let Some(first) = tree.documents().next() else {
            continue;
        };
        let versions = model.versions(first);
        outside(model, first, findings);
        if versions.envoy().is_none() {
            continue;
        }
        if has_span_id && let Some(old) = versions.older_than(38) {
            for document in tree.documents() {
                span_ids(document, &old, findings);
            }
        }
        for map in tree.maps() {
            tags(model, map, findings);
        }
    }
    for resource in model.of_kind("TrafficExtension") {
        if let Some((istio, _)) = model
            .versions(resource.node)
            .istio
            .filter(|(istio, _)| istio.0 < 30)
        {
            let at = resource.node.get("kind").unwrap_or(resource.node);
            let message = format!(
                "Istio {istio} has no TrafficExtension, which came with 1.30; write a WasmPlugin"
            );
            findings.add(Code::ExtensionTooEarly, at, message);
        }
    }
    for plugin in model.plugins.iter().filter(|plugin| plugin.is_native()) {
        let versions = model.versions(plugin.node);
        // The proxy of Istio 1.30 is Envoy 1.38, built without dynamic modules.
        let (minor, came_with) = match versions.are_of_istio() {
            true => (39, "Istio 1.31"),
            false => (38, "Envoy 1.38"),
        };
        if let Some(old) = versions.older_than(minor) {
            let message = format!(
                "{old} has no tracer of dynamic modules, which came with {came_with}; use mesh_tracing.wasm"
            );
            findings.add(Code::FieldTooEarly, plugin.node, message);
        }
    }
    for manager in &model.managers {
        fallback(model, &manager.upstream, findings);
    }
    for (_, filters) in &model.cluster_filters {
        fallback(model, filters, findings);
    }
}

fn span_ids(node: Node<'_>, old: &str, findings: &mut Findings) {
    if node.scalar().is_some_and(|text| text.contains("%SPAN_ID%")) {
        let message = format!(
            "{old} has no %SPAN_ID%, and refuses the listener; leave it out, and take \
             %FILTER_STATE(wasm.span_id:PLAIN)% of access_log_trace"
        );
        findings.add(Code::SpanIdTooEarly, node, message);
    }
    for (_, value) in node.entries() {
        span_ids(value, old, findings);
    }
    for item in node.items() {
        span_ids(item, old, findings);
    }
}

fn tags(model: &Model<'_>, map: Node<'_>, findings: &mut Findings) {
    let versions = model.versions(map);
    let too_early = "a tag cannot read filter state there; take request headers \
                     (emit.request_header_prefix, and `meshtrace render span-attributes CONFIG` \
                     for that version)";
    for tag in map.list("custom_tags") {
        if let (Some(value), Some(old)) = (tag.get("value"), versions.older_than(37)) {
            let message = format!(
                "{old} does not know `value` of a tag, and refuses the listener: {too_early}"
            );
            findings.add(Code::TagTooEarly, value, message);
        }
        if let (Some(kind), Some(old)) = (tag.get("value_type"), versions.older_than(40)) {
            let message = format!(
                "{old} does not know value_type, which came with Envoy 1.40, and refuses the \
                 listener; remove it"
            );
            findings.add(Code::FieldTooEarly, kind, message);
        }
    }
    if map.key() == Some("tracing") {
        for (field, minor) in TRACING {
            if let (Some(value), Some(old)) = (map.get(field), versions.older_than(minor)) {
                let message = format!(
                    "{old} does not know {field}, which came with Envoy 1.{minor}, and refuses the \
                     listener; remove it"
                );
                findings.add(Code::FieldTooEarly, value, message);
            }
        }
    }
    if let Some(tags) = map.get("custom_tags").filter(|tags| tags.is_map()) {
        for (_, tag) in tags.entries() {
            if let (Some(formatter), Some(old)) = (tag.get("formatter"), versions.older_than(37)) {
                let message = format!("{old} leaves a tag with `formatter` out: {too_early}");
                findings.add(Code::TagTooEarly, formatter, message);
            }
        }
    }
    if let (Some(field), Some(old)) = (
        map.get("disable_context_propagation"),
        versions.older_than(38),
    ) {
        let message = format!(
            "{old} does not know disableContextPropagation, which came with Istio 1.30; remove it"
        );
        findings.add(Code::FieldTooEarly, field, message);
    }
}

fn fallback(model: &Model<'_>, filters: &[HttpFilter<'_>], findings: &mut Findings) {
    for filter in filters {
        let types = filter.node.get("config_discovery");
        let types = types
            .into_iter()
            .flat_map(|discovery| discovery.list("type_urls"));
        for url in types {
            let is_rbac = url
                .scalar()
                .is_some_and(|url| url.ends_with("rbac.v3.RBAC"));
            if !is_rbac {
                continue;
            }
            let versions = model.versions(url);
            let old = versions
                .older_than(38)
                .or_else(|| versions.older_than(39).filter(|_| versions.istio.is_none()));
            if let Some(old) = old {
                let message = format!(
                    "{old} knows no RBAC among upstream filters, and refuses the listener; mount \
                     the module as a file \
                     (istio-manifests/envoyfilter/trace-context-otel-upstream.yaml)"
                );
                findings.add(Code::FallbackTooEarly, url, message);
            }
        }
    }
}

/// Finds versions with which the filters are not tested.
fn outside(model: &Model<'_>, first: Node<'_>, findings: &mut Findings) {
    let has_plugin = model
        .plugins
        .iter()
        .any(|plugin| plugin.node.input() == first.input());
    if !has_plugin {
        return;
    }
    let versions = model.versions(first);
    let (what, range, (least, most)) = match (versions.istio, versions.envoy()) {
        (Some(range), _) => ("Istio", range, ISTIO),
        (None, Some(range)) => ("Envoy", range, ENVOY),
        _ => return,
    };
    let (oldest, newest) = range;
    if oldest.0 >= least && newest.0 <= most {
        return;
    }
    let version = if oldest.0 < least { oldest } else { newest };
    let message = format!(
        "{what} {version}: the filters are tested with 1.{least} to 1.{most}; with another version \
         try them first (make test)"
    );
    findings.add(Code::OutsideVersions, first, message);
}
