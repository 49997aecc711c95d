//! Two filters that do one job on one proxy.

use crate::document::Node;
use crate::filter::Filter;
use crate::finding::{Code, Findings};
use crate::model::plugin::{Host, Plugin};
use crate::model::reach::Reach;
use crate::model::{Model, Resource};

use super::state::attributes;
use super::suggest::list;

/// What a filter does, and a filter that does it too.
struct Overlap<'t> {
    /// The reports of both, where both report.
    report: Option<Node<'t>>,
    /// The stages that both have.
    stages: Vec<&'static str>,
}

pub(super) fn check(model: &Model<'_>, findings: &mut Findings) {
    for manager in &model.managers {
        // The patches of an EnvoyFilter are for several proxies.
        if manager.node.get("kind").is_some() {
            continue;
        }
        for filters in [&manager.filters, &manager.upstream] {
            let enabled = filters.iter().filter(|filter| !filter.disabled);
            let plugins = enabled.filter_map(|filter| model.plugin(filter));
            in_one_list(&plugins.collect::<Vec<_>>(), findings);
        }
    }
    for policy in model.of_kind("EnvoyExtensionPolicy") {
        let is_its = |plugin: &&Plugin<'_>| {
            let around = model.resource_of(plugin.node);
            around.is_some_and(|around| around.node == policy.node)
        };
        in_one_list(&model.taken().filter(is_its).collect::<Vec<_>>(), findings);
    }
    in_mesh(model, findings);
}

/// Checks plugins through which each request passes, in their order.
fn in_one_list(plugins: &[&Plugin<'_>], findings: &mut Findings) {
    for (place, plugin) in plugins.iter().enumerate() {
        let mut others = plugins.iter().take(place);
        let found = others.find_map(|other| Some((other, overlap(other, plugin)?)));
        let Some((other, overlap)) = found else {
            continue;
        };
        let what = format!("the plugin {:?} in front of it", other.name);
        tell(plugin, &what, "", &overlap, findings);
    }
}

/// Checks the plugins of Istio's resources, which choose their proxies each on its own.
fn in_mesh(model: &Model<'_>, findings: &mut Findings) {
    let mut seen: Vec<(&Plugin<'_>, &Resource<'_>, Reach<'_>)> = Vec::new();
    for plugin in model.taken() {
        let Some(resource) = model.resource_of(plugin.node) else {
            continue;
        };
        let Some(reach) = Reach::of(model, plugin, resource) else {
            continue;
        };
        let found = seen.iter().find_map(|(other, around, chosen)| {
            let shared = chosen.shared(&reach)?;
            let both = overlap(other, plugin)?;
            Some((around, shared, both))
        });
        if let Some((other, shared, overlap)) = found {
            let what = match other.node == resource.node {
                true => format!("another patch of {} {}", other.kind, other.name),
                false => format!("{} {}", other.kind, other.name),
            };
            let chosen = format!("is for {shared} and ");
            tell(plugin, &what, &chosen, &overlap, findings);
        }
        seen.push((plugin, resource, reach));
    }
}

fn overlap<'t>(one: &Plugin<'t>, other: &Plugin<'t>) -> Option<Overlap<'t>> {
    // A second tracer of Envoy's own replaces the first.
    if one.is_native() && other.is_native() {
        return None;
    }
    let stages = Filter::ALL
        .into_iter()
        .filter(|filter| does(one, *filter) && does(other, *filter))
        .filter(|filter| *filter != Filter::SpanAttributes || has_one_key(one, other));
    let overlap = Overlap {
        report: one.report().and(other.report()),
        stages: stages.map(Filter::name).collect(),
    };
    (overlap.report.is_some() || !overlap.stages.is_empty()).then_some(overlap)
}

/// Whether the plugin does the work of `filter`. A report is never without a context and a decision.
fn does(plugin: &Plugin<'_>, filter: Filter) -> bool {
    let is_tracer = plugin.report().is_some();
    match filter {
        Filter::MeshTracing => false,
        Filter::TraceContext | Filter::RouteSampling if is_tracer => true,
        _ => plugin.has(filter),
    }
}

/// Whether both have an attribute of one key. Attributes of different keys stand side by side.
fn has_one_key(one: &Plugin<'_>, other: &Plugin<'_>) -> bool {
    let own = attributes(other);
    attributes(one)
        .iter()
        .any(|(key, _)| own.iter().any(|(own, _)| own == key))
}

fn tell(
    plugin: &Plugin<'_>,
    other: &str,
    chosen: &str,
    overlap: &Overlap<'_>,
    findings: &mut Findings,
) {
    let advice = match plugin.host {
        Host::Istio | Host::EnvoyFilter if !chosen.is_empty() => {
            "; a selector cannot leave pods out, so give each a label of its own, or leave one of \
             them"
        }
        _ => "; leave one of them",
    };
    if let Some(report) = overlap.report {
        let message = format!(
            "{other} {chosen}reports spans too: each request has two spans of a proxy, one the \
             child of the other{advice}, or remove `report` here"
        );
        findings.add(Code::TwoTracers, report, message);
        return;
    }
    let stages = list(overlap.stages.iter().map(ToString::to_string).collect());
    let message = format!(
        "{other} {chosen}does the work of {stages} too: a request passes both, and the later one may \
         write over what the earlier one wrote{advice}"
    );
    let at = match plugin.host {
        Host::Envoy | Host::EnvoyFilter => plugin.node.get("name"),
        _ => None,
    };
    findings.add(Code::OneJobTwice, at.unwrap_or(plugin.node), message);
}
