//! The places of filters.

use std::collections::HashMap;

use crate::document::Node;
use crate::filter::Filter;
use crate::finding::{Code, Findings};
use crate::model::Model;
use crate::model::chain::HttpFilter;
use crate::model::plugin::{Host, Plugin, Spot};

use super::switched_off;

pub(super) fn check(model: &Model<'_>, findings: &mut Findings) {
    for plugin in model.taken() {
        placement(plugin, findings);
    }
    for manager in &model.managers {
        let router = manager.filters.iter().position(HttpFilter::is_router);
        for (place, filter) in manager.filters.iter().enumerate() {
            let Some(plugin) = model.plugin(filter) else {
                continue;
            };
            if router.is_some_and(|router| place > router) {
                behind_router(plugin, filter.node, findings);
            }
        }
        codec_last(&manager.upstream, findings);
    }
    for (_, filters) in &model.cluster_filters {
        codec_last(filters, findings);
    }
    for resource in model.of_kind("EnvoyFilter") {
        let patches = resource
            .spec()
            .into_iter()
            .flat_map(|spec| spec.list("config_patches"));
        for patch in patches {
            patched_behind_router(model, patch, findings);
        }
    }
    same_names(model, findings);
    switched_off::check(model, findings);
}

fn placement(plugin: &Plugin<'_>, findings: &mut Findings) {
    let placed = plugin.map().and_then(|map| map.get("placement"));
    let is_upstream = placed.and_then(Node::text) == Some("upstream");
    let has_placement = matches!(plugin.filter, Filter::TraceContext | Filter::RouteSampling);
    match (plugin.spot, placed) {
        (Spot::Listener, Some(placed)) if is_upstream => {
            let place = match plugin.host {
                Host::Istio => {
                    "a WasmPlugin or TrafficExtension always stands among a listener's filters; \
                     the place behind the tracer takes an EnvoyFilter \
                     (istio-manifests/envoyfilter/trace-context-*-upstream.yaml)"
                }
                Host::Gateway => "a policy's filter always stands among a listener's filters",
                _ => {
                    "move the filter to the router's upstream_http_filters (or a cluster's \
                     http_filters), or remove `placement` and `tracer`"
                }
            };
            let message = format!(
                "{} stands among a listener's HTTP filters, where it finds nothing that the tracer \
                 wrote; {place}",
                plugin.title()
            );
            findings.add(Code::UpstreamInListener, placed, message);
        }
        (Spot::Upstream, _) if has_placement && !is_upstream && plugin.map().is_some() => {
            let message = format!(
                "{} stands among upstream filters; write {{\"placement\": \"upstream\", \
                 \"tracer\": …}} with the format that this proxy's tracer writes, or move it among \
                 the listener's http_filters",
                plugin.title()
            );
            let at = placed.or(plugin.written).unwrap_or(plugin.node);
            findings.add(Code::DownstreamInUpstream, at, message);
        }
        (Spot::Upstream, _)
            if has_placement && !is_upstream
                || matches!(plugin.filter, Filter::AccessLogTrace | Filter::MeshTracing) =>
        {
            let advice = if has_placement {
                "configure {\"placement\": \"upstream\", \"tracer\": …}"
            } else {
                "it works in the listener's http_filters alone; move it there"
            };
            let message = format!("{} stands among upstream filters; {advice}", plugin.title());
            findings.add(Code::DownstreamInUpstream, plugin.node, message);
        }
        _ => {}
    }
}

fn behind_router(plugin: &Plugin<'_>, node: Node<'_>, findings: &mut Findings) {
    let message = format!(
        "{} stands behind the router, which ends the list: Envoy refuses the listener, or never \
         runs it; move it in front",
        plugin.title()
    );
    findings.add(Code::BehindRouter, node, message);
}

fn patched_behind_router(model: &Model<'_>, patch: Node<'_>, findings: &mut Findings) {
    if patch.text_at(&["apply_to"]) != Some("HTTP_FILTER") {
        return;
    }
    let sub = [
        "match",
        "listener",
        "filter_chain",
        "filter",
        "sub_filter",
        "name",
    ];
    let is_router = patch.text_at(&sub) == Some("envoy.filters.http.router");
    let operation = patch.at(&["patch", "operation"]);
    let ends_behind = match operation.and_then(Node::scalar) {
        Some("ADD") => true,
        Some("INSERT_AFTER") => is_router,
        _ => false,
    };
    let Some(operation) = operation.filter(|_| ends_behind) else {
        return;
    };
    let Some(value) = patch.at(&["patch", "value"]) else {
        return;
    };
    let within = |plugin: &&Plugin<'_>| {
        let mut here = Some(plugin.node);
        while let Some(node) = here {
            if node == value {
                return true;
            }
            here = node.parent();
        }
        false
    };
    if let Some(plugin) = model.plugins.iter().find(within) {
        let message = format!(
            "this puts {} behind the router, where nothing runs; use INSERT_FIRST, or \
             INSERT_BEFORE with the subFilter envoy.filters.http.router",
            plugin.title()
        );
        findings.add(Code::BehindRouter, operation, message);
    }
}

fn codec_last(filters: &[HttpFilter<'_>], findings: &mut Findings) {
    let Some(last) = filters.last() else { return };
    let has_codec = |filter: &HttpFilter<'_>| filter.is("upstream_codec");
    if !has_codec(last) {
        findings.add(
            Code::CodecNotLast,
            last.node,
            "a list of upstream filters ends with envoy.filters.http.upstream_codec, or Envoy \
             refuses it; add it behind this one",
        );
    }
}

/// Finds plugins with the same name and different configurations in one VM.
fn same_names(model: &Model<'_>, findings: &mut Findings) {
    let by_envoy = |plugin: &&Plugin<'_>| {
        matches!(plugin.host, Host::Envoy | Host::EnvoyFilter)
            && (plugin.spot != Spot::Unknown || plugin.host == Host::EnvoyFilter)
    };
    let mut first: HashMap<_, Vec<(&Plugin<'_>, serde_json::Value)>> = HashMap::new();
    let mut told = Vec::new();
    for plugin in model.plugins.iter().filter(by_envoy) {
        let key = (plugin.filter, plugin.name, plugin.root_id, plugin.vm_id);
        let json = plugin.map().map(Node::to_json).unwrap_or_default();
        let known = first.entry(key).or_default();
        let twin = known
            .iter()
            .find(|(other, _)| same_proxy(model, other, plugin));
        let Some((twin, written)) = twin else {
            known.push((plugin, json));
            continue;
        };
        // There is one finding for each name, because further ones would be the same.
        if *written == json || told.contains(&key) {
            continue;
        }
        told.push(key);
        let name = match plugin.name {
            "" => "no name".to_owned(),
            name => format!("the name {name:?}"),
        };
        let message = format!(
            "two plugins of {} with different configurations have {name} in one VM (the other one: \
             line {}), so that a bad update of one cannot be told from the other; give each a \
             `name` of its own",
            plugin.title(),
            twin.node.key_position().line
        );
        let at = plugin.node.get("name").unwrap_or(plugin.node);
        findings.add(Code::SameName, at, message);
    }
}

fn same_proxy(model: &Model<'_>, one: &Plugin<'_>, other: &Plugin<'_>) -> bool {
    if one.host != other.host {
        return false;
    }
    if one.host == Host::Envoy {
        return one.node.input() == other.node.input();
    }
    // EnvoyFilters are for the same pods where their labels are equal.
    let labels = |plugin: &Plugin<'_>| {
        let resource = model
            .resources
            .iter()
            .find(|resource| is_within(plugin.node, resource.node));
        resource.map(|resource| {
            let mut labels: Vec<_> = resource
                .selector()
                .into_iter()
                .map(|(key, value)| (key, value.scalar().unwrap_or_default()))
                .collect();
            labels.sort_unstable();
            labels
        })
    };
    labels(one) == labels(other)
}

/// Whether `node` is below `around`.
fn is_within(node: Node<'_>, around: Node<'_>) -> bool {
    let mut here = Some(node);
    while let Some(at) = here {
        if at == around {
            return true;
        }
        here = at.parent();
    }
    false
}
