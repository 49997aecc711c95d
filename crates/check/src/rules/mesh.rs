//! Labels, selectors and resources of a mesh.

use crate::document::Node;
use crate::finding::{Code, Findings};
use crate::model::{Model, Resource};

use super::suggest;

pub(super) fn check(model: &Model<'_>, findings: &mut Findings) {
    for resource in &model.resources {
        let selects = matches!(
            resource.kind,
            "WasmPlugin" | "TrafficExtension" | "EnvoyFilter" | "Telemetry"
        );
        if selects {
            selects_nothing(model, resource, findings);
            waypoint(model, resource, findings);
        }
    }
    one_key(model, findings);
    telemetries(model, findings);
    providers(model, findings);
}

fn selects_nothing(model: &Model<'_>, resource: &Resource<'_>, findings: &mut Findings) {
    let selector = resource.selector();
    in_another_namespace(model, resource, findings);
    let workloads: Vec<_> = model
        .resources
        .iter()
        .filter(|own| own.is_workload() && own.may_share_namespace(resource))
        .collect();
    let (false, Some((key, value))) = (workloads.is_empty(), selector.first()) else {
        return;
    };
    let has = |labels: Option<Node<'_>>, key: &str, wanted: Node<'_>| {
        labels
            .and_then(|labels| labels.get_exactly(key))
            .is_some_and(|value| value.scalar() == wanted.scalar())
    };
    let is_selected = |own: &&&Resource<'_>| {
        selector
            .iter()
            .all(|(key, value)| has(own.labels(), key, *value))
    };
    if workloads.iter().any(|own| is_selected(&own)) {
        return;
    }
    let wanted = value.scalar().unwrap_or_default();
    // The label is on the Deployment, and not on its pods.
    let on_itself = workloads
        .iter()
        .find(|own| has(own.node.at(&["metadata", "labels"]), key, *value));
    let others: Vec<_> = workloads
        .iter()
        .filter_map(|own| own.labels())
        .flat_map(Node::entries)
        .collect();
    let names: Vec<_> = others.iter().map(|(key, _)| *key).collect();
    let values: Vec<_> = others
        .iter()
        .filter(|(own, _)| own == key)
        .filter_map(|(_, value)| value.scalar())
        .collect();
    let advice = if let Some(own) = on_itself {
        format!(
            "{} {} has it in metadata.labels; move it to spec.template.metadata.labels, which its \
             pods get",
            own.kind, own.name
        )
    } else if let Some(close) = suggest::closest(wanted, &values) {
        format!("did you mean {key}: {close}?")
    } else if let Some(close) = suggest::closest(key, &names).filter(|close| close != key) {
        format!("a workload has {close}; did you mean that?")
    } else if key.starts_with("meshtrace") {
        "add it to spec.template.metadata.labels of the workloads that need it".to_owned()
    } else {
        // Its workloads may be in files that are not given.
        return;
    };
    let message = format!(
        "no workload here has the label {key}: {wanted}, so that nothing is applied; {advice}"
    );
    findings.add(Code::SelectsNothing, *value, message);
}

/// Whether all labels of `selector` are there. `label` has the value of a key.
fn has_all<'t>(selector: &[(&str, Node<'_>)], label: impl Fn(&str) -> Option<Node<'t>>) -> bool {
    selector
        .iter()
        .all(|(key, value)| label(key).is_some_and(|own| own.scalar() == value.scalar()))
}

/// Finds a selector whose workloads are all in other namespaces. A resource there, with the same
/// selector, would be theirs, and this one for workloads that are not given.
fn in_another_namespace(model: &Model<'_>, resource: &Resource<'_>, findings: &mut Findings) {
    let selector = resource.selector();
    let Some((key, value)) = selector.first() else {
        return;
    };
    let selected = model.resources.iter().filter(|own| {
        let labels = own.labels();
        own.is_workload() && has_all(&selector, |key| labels?.get_exactly(key))
    });
    let mut others = Vec::new();
    for workload in selected {
        if workload.may_share_namespace(resource) {
            return;
        }
        others.push(workload);
    }
    let Some(other) = others.first() else { return };
    let has_own = model.of_kind(resource.kind).any(|twin| {
        let own = twin.selector();
        twin.node != resource.node
            && twin.may_share_namespace(other)
            && has_all(&selector, |key| {
                let label = own.iter().find(|(own, _)| *own == key);
                label.map(|(_, value)| *value)
            })
    });
    if has_own {
        return;
    }
    let message = format!(
        "{} {} has the label {key}: {}, and is in the namespace {}, while this is for {} alone; put \
         it into that namespace",
        other.kind,
        other.name,
        value.scalar().unwrap_or_default(),
        other.namespace.unwrap_or_default(),
        resource.namespace.unwrap_or_default(),
    );
    findings.add(Code::SelectsNothing, *value, message);
}

fn waypoint(model: &Model<'_>, resource: &Resource<'_>, findings: &mut Findings) {
    let spec = resource.spec();
    let targets = |key| spec.and_then(|spec| spec.get(key));
    if let Some(targets) = targets("target_refs").or(targets("target_ref"))
        && !resource.selector().is_empty()
    {
        let message = "a selector and targetRefs stand together, and Istio refuses the resource; \
                       keep targetRefs for a waypoint or a Gateway, and the selector for pods";
        findings.add(Code::WaypointSelector, targets, message);
        return;
    }
    for (key, value) in resource.selector() {
        let name = value.scalar().unwrap_or_default();
        let of_gateway = || {
            model.of_kind("Gateway").any(|gateway| {
                let class = gateway
                    .spec()
                    .and_then(|spec| spec.text_at(&["gateway_class_name"]));
                gateway.name == name && class == Some("istio-waypoint")
            })
        };
        let is_waypoint = match key {
            "gateway.networking.k8s.io/gateway-name" | "istio.io/gateway-name" => {
                name.contains("waypoint") || of_gateway()
            }
            "gateway.istio.io/managed" => name == "istio.io-mesh-controller",
            _ => false,
        };
        if !is_waypoint {
            continue;
        }
        let advice = if resource.kind == "EnvoyFilter" {
            "a waypoint takes no EnvoyFilter by its labels; use a WasmPlugin or TrafficExtension \
             with targetRefs"
        } else {
            "name its Gateway instead: targetRefs: [{group: gateway.networking.k8s.io, kind: \
             Gateway, name: …}]"
        };
        findings.add(
            Code::WaypointSelector,
            value,
            format!("a waypoint is reached by no selector, so that nothing is applied; {advice}"),
        );
    }
}

/// Finds labels that need two values: a pod can have only one value of a label.
fn one_key(model: &Model<'_>, findings: &mut Findings) {
    let mut seen: Vec<(&Resource<'_>, &str, Node<'_>)> = Vec::new();
    for resource in &model.resources {
        for (key, value) in resource.selector() {
            if !key.starts_with("meshtrace") {
                continue;
            }
            let other = seen.iter().find(|(other, own, first)| {
                *own == key
                    && first.scalar() != value.scalar()
                    && other.may_share_namespace(resource)
            });
            if let Some((other, _, first)) = other {
                let message = format!(
                    "a pod has one value of {key}, so that it cannot have this and {} of {} {}; \
                     give each need a key of its own, such as meshtrace-{}: enabled",
                    first.scalar().unwrap_or_default(),
                    other.kind,
                    other.name,
                    value.scalar().unwrap_or_default()
                );
                findings.add(Code::OneKey, value, message);
            }
            seen.push((resource, key, value));
        }
    }
}

fn telemetries(model: &Model<'_>, findings: &mut Findings) {
    let mut seen: Vec<&Resource<'_>> = Vec::new();
    for telemetry in model.of_kind("Telemetry") {
        let spec = telemetry.spec();
        let is_for_all = telemetry.selector().is_empty()
            && spec.is_some_and(|spec| {
                spec.get("target_refs").is_none() && spec.get("target_ref").is_none()
            });
        if !is_for_all {
            continue;
        }
        let other = seen
            .iter()
            .find(|other| other.namespace == telemetry.namespace && other.name != telemetry.name);
        if let Some(other) = other {
            let message = format!(
                "{} has no selector either, and of those Istio takes one a namespace, the older; \
                 put both into one resource",
                other.name
            );
            findings.add(
                Code::TwoTelemetries,
                telemetry.node.get("metadata").unwrap_or(telemetry.node),
                message,
            );
        }
        seen.push(telemetry);
    }
}

fn providers(model: &Model<'_>, findings: &mut Findings) {
    const BUILT_IN: [&str; 4] = ["envoy", "prometheus", "stackdriver", "zipkin"];
    let known: Vec<_> = model
        .meshes
        .iter()
        .flat_map(|mesh| mesh.list("extension_providers"))
        .filter_map(|provider| provider.text_at(&["name"]))
        .collect();
    if known.is_empty() {
        return;
    }
    let of_telemetry = model.of_kind("Telemetry").flat_map(|telemetry| {
        let spec = telemetry.spec();
        ["tracing", "access_logging"]
            .into_iter()
            .flat_map(move |key| spec.into_iter().flat_map(move |spec| spec.list(key)))
            .flat_map(|entry| entry.list("providers"))
            .filter_map(|provider| provider.get("name"))
    });
    let of_mesh = model.meshes.iter().flat_map(|mesh| {
        let defaults = mesh.get("default_providers");
        ["tracing", "access_logging"]
            .into_iter()
            .flat_map(move |key| defaults.into_iter().flat_map(move |node| node.list(key)))
    });
    for name in of_telemetry.chain(of_mesh) {
        let text = name.scalar().unwrap_or_default();
        if known.contains(&text) || BUILT_IN.contains(&text) {
            continue;
        }
        let message = format!(
            "the mesh configuration has no provider {text:?}, so that Istio leaves this out; {}",
            suggest::values(text, &known, &[])
        );
        findings.add(Code::UnknownProvider, name, message);
    }
}
