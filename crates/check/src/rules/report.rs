//! The report of mesh_tracing: its cluster, and its role.

use crate::document::{Node, Tree};
use crate::finding::{Code, Findings};
use crate::model::plugin::{Host, Plugin};
use crate::model::{Cluster, Model, Resource};

use super::suggest;

pub(super) fn check(model: &Model<'_>, findings: &mut Findings) {
    for plugin in &model.plugins {
        let Some(report) = plugin.report() else {
            continue;
        };
        if let Some(cluster) = report.get("cluster")
            && let Some(name) = cluster.text()
        {
            let is_grpc = report.text_at(&["protocol"]) == Some("grpc");
            of_cluster(model, plugin, cluster, name, is_grpc, findings);
        }
        role_of_mesh(plugin, report, findings);
        if plugin
            .map()
            .is_some_and(|map| map.get("sampling").is_none())
        {
            let message = "of the traces that begin here one in a hundred is reported; for more \
                           add \"sampling\": {\"default\": \"always\"}, or a ratio";
            findings.add(Code::OneInAHundred, report, message);
        }
    }
    for plugin in model.plugins.iter().filter(|plugin| plugin.is_native()) {
        let exports = model
            .managers
            .iter()
            .filter(|manager| manager.node.input() == plugin.node.input())
            .flat_map(|manager| &manager.filters)
            .filter_map(|filter| filter.config?.text_at(&["filter_name"]))
            .any(|name| name == "mesh_tracing_export");
        let is_extension = |part: Node<'_>| {
            part.text_at(&["extension_name"]) == Some("mesh_tracing_flush")
                && part.input() == plugin.node.input()
        };
        let mut parts = model.files.trees.iter().flat_map(Tree::maps);
        if plugin.report().is_some() && !exports && !parts.any(is_extension) {
            let message = "nothing carries the export, neither a filter nor a bootstrap extension; add to \
                           http_filters: {name: mesh_tracing_export, disabled: true, typed_config: \
                           {\"@type\": …DynamicModuleFilter, dynamic_module_config: {name: meshtrace}, \
                           filter_name: mesh_tracing_export}}";
            findings.add(Code::NativeExport, plugin.node, message);
        }
    }
    for manager in &model.managers {
        let plugins = manager
            .filters
            .iter()
            .filter_map(|filter| model.plugin(filter));
        for plugin in plugins {
            role(model, plugin, manager.inbound, findings);
        }
    }
}

fn of_cluster(
    model: &Model<'_>,
    plugin: &Plugin<'_>,
    cluster: Node<'_>,
    name: &str,
    is_grpc: bool,
    findings: &mut Findings,
) {
    let found = model.clusters.iter().find(|own| own.name == name);
    if let Some(found) = found {
        return of_known(found, cluster, is_grpc, findings);
    }
    let names: Vec<_> = model.clusters.iter().map(|own| own.name).collect();
    let close = || match suggest::closest(name, &names) {
        Some(close) => format!("did you mean {close:?}?"),
        None if plugin.host == Host::Gateway => {
            "add it to spec.bootstrap of the EnvoyProxy".to_owned()
        }
        None => "add it to `clusters`".to_owned(),
    };
    let is_complete = match plugin.host {
        Host::Envoy => model.complete.contains(&cluster.input()),
        // Envoy Gateway makes clusters of routes alone. The collector's is in an EnvoyProxy, or in a
        // patch.
        Host::Gateway => {
            let is_given = model.of_kind("EnvoyProxy").next().is_some();
            is_given && model.of_kind("EnvoyPatchPolicy").next().is_none() && !name.contains('/')
        }
        _ => false,
    };
    if is_complete {
        let message = format!(
            "Envoy has no cluster {name:?}, so that every span is dropped; {}",
            close()
        );
        findings.add(Code::NoCluster, cluster, message);
        return;
    }
    let mut parts = name.split('|');
    let (direction, port, _, host) = (parts.next(), parts.next(), parts.next(), parts.next());
    let is_istio = direction == Some("outbound");
    if let (true, Some(port), Some(host)) = (is_istio, port, host) {
        of_service(model, plugin, cluster, (host, port), is_grpc, findings);
    } else if matches!(plugin.host, Host::Istio | Host::EnvoyFilter)
        && name.contains(['.', ':', '/'])
    {
        let host = name.rsplit('/').next().unwrap_or(name);
        let (host, port) = host.split_once(':').unwrap_or((host, "4318"));
        let message = format!(
            "{name:?} is a host and no cluster of Istio's, which are named by direction, port and \
             host; write \"outbound|{port}||{host}\""
        );
        findings.add(Code::NoCluster, cluster, message);
    } else if plugin.host == Host::Envoy && name.contains("://") {
        let message = "this is a URL; name the Envoy cluster of the collector, and put the host \
                       into `authority`";
        findings.add(Code::NoCluster, cluster, message);
    }
}

fn of_known(found: &Cluster<'_>, cluster: Node<'_>, is_grpc: bool, findings: &mut Findings) {
    if found.is_original_dst() {
        let message = format!(
            "the cluster {} is ORIGINAL_DST, which calls the address that a request came to; an \
             export came to none, so that it fails: name a cluster with endpoints (STRICT_DNS, \
             EDS)",
            found.name
        );
        findings.add(Code::OriginalDst, cluster, message);
    } else if is_grpc && !found.speaks_http2() {
        let message = format!(
            "the cluster {} (line {}) speaks HTTP/1, and gRPC needs HTTP/2; add \
             explicit_http_config: {{http2_protocol_options: {{}}}} to its \
             typed_extension_protocol_options, or use \"protocol\": \"http/protobuf\"",
            found.name,
            found.node.position().line
        );
        findings.add(Code::NotHttp2, cluster, message);
    } else if let Some(port) = found.port() {
        port_of_other(port, is_grpc, cluster, findings);
    }
}

/// Checks that the port is not the other protocol's.
fn port_of_other(port: &str, is_grpc: bool, cluster: Node<'_>, findings: &mut Findings) {
    let message = match (port, is_grpc) {
        ("4317", false) => {
            "4317 is the port of OTLP over gRPC; write 4318, or \"protocol\": \"grpc\""
        }
        ("4318", true) => {
            "4318 is the port of OTLP over HTTP; write 4317, or \"protocol\": \"http/protobuf\""
        }
        _ => return,
    };
    findings.add(Code::PortContradicts, cluster, message);
}

/// Checks the service from which Istio makes the cluster.
fn of_service(
    model: &Model<'_>,
    plugin: &Plugin<'_>,
    cluster: Node<'_>,
    (host, port): (&str, &str),
    is_grpc: bool,
    findings: &mut Findings,
) {
    let number: f64 = port.parse().unwrap_or_default();
    port_of_other(port, is_grpc, cluster, findings);
    let is_named = |service: &&Resource<'_>| {
        let mut parts = host.split('.');
        let (name, namespace) = (parts.next(), parts.next());
        name == Some(service.name)
            && service.namespace.is_none_or(|own| Some(own) == namespace)
            && host.contains(".svc")
    };
    let entry = |entry: &&Resource<'_>| {
        let mut hosts = entry.spec().into_iter().flat_map(|spec| spec.list("hosts"));
        hosts.any(|own| own.scalar() == Some(host))
    };
    let (service, number_key) = match model.of_kind("Service").find(is_named) {
        Some(service) => (service, "port"),
        None => match model.of_kind("ServiceEntry").find(entry) {
            Some(service) => (service, "number"),
            None => return no_service(model, cluster, (host, port), findings),
        },
    };
    let spec = service.spec();
    if spec.and_then(|spec| spec.text_at(&["cluster_ip"])) == Some("None") {
        let message = format!(
            "the Service {} is headless (clusterIP: None): Istio makes an ORIGINAL_DST cluster of \
             it, through which nothing is exported; use a Service with an address",
            service.name
        );
        findings.add(Code::ServiceLacks, cluster, message);
        return;
    }
    let found = spec
        .into_iter()
        .flat_map(|spec| spec.list("ports"))
        .find(|own| own.get(number_key).and_then(Node::number) == Some(number));
    let Some(found) = found else {
        let message = format!(
            "the {} {} has no port {port}, so that there is no such cluster",
            service.kind, service.name
        );
        findings.add(Code::ServiceLacks, cluster, message);
        return;
    };
    let protocol = [
        found.text_at(&["app_protocol"]),
        found.text_at(&["name"]),
        found
            .text_at(&["protocol"])
            .filter(|_| number_key == "number"),
    ];
    let speaks = protocol.iter().flatten().any(|text| {
        let text = text.to_ascii_lowercase();
        text.starts_with("grpc") || text.starts_with("http2") || text.contains("h2c")
    });
    if is_grpc && !speaks && plugin.host != Host::Nobody {
        let message = format!(
            "port {port} of the {} {} does not say that it speaks HTTP/2, so that Istio sends \
             HTTP/1; name the port grpc-…, or set appProtocol: grpc",
            service.kind, service.name
        );
        findings.add(Code::NotHttp2, cluster, message);
    }
}

/// Finds a Service that is nearly the one of the name: one letter or two differ, or it is in a
/// namespace of which nothing is here. Others may be in the mesh and in no file.
fn no_service(
    model: &Model<'_>,
    cluster: Node<'_>,
    (host, port): (&str, &str),
    findings: &mut Findings,
) {
    let mut parts = host.splitn(3, '.');
    let (Some(name), Some(namespace), Some(rest)) = (parts.next(), parts.next(), parts.next())
    else {
        return;
    };
    if !rest.starts_with("svc") {
        return;
    }
    let is_near = |own: &&Resource<'_>| {
        let distance = strsim::damerau_levenshtein(own.name, name);
        own.namespace.is_none_or(|own| own == namespace) && name.len() > 4 && distance <= 2
    };
    let is_known = model
        .resources
        .iter()
        .any(|own| own.namespace == Some(namespace));
    let is_elsewhere = |own: &&Resource<'_>| own.name == name && !is_known;
    let mut services = model.of_kind("Service");
    let Some(found) = services
        .find(is_near)
        .or_else(|| model.of_kind("Service").find(is_elsewhere))
    else {
        return;
    };
    let own = found.namespace.unwrap_or(namespace);
    let message = format!(
        "no Service {name} of the namespace {namespace} is here, but {} of {own}; did you mean \
         \"outbound|{port}||{}.{own}.{rest}\"?",
        found.name, found.name
    );
    findings.add(Code::ServiceLacks, cluster, message);
}

/// Checks the role in a listener with a direction.
fn role(model: &Model<'_>, plugin: &Plugin<'_>, inbound: Option<bool>, findings: &mut Findings) {
    let role = plugin.report().and_then(|report| report.get("role"));
    let (Some(role), Some(inbound)) = (role, inbound) else {
        return;
    };
    let is_router = model.envoy.iter().any(|document| {
        let own = document.text_at(&["node", "id"]);
        let dumped = document
            .list("configs")
            .find_map(|config| config.text_at(&["bootstrap", "node", "id"]));
        own.or(dumped).is_some_and(|id| id.starts_with("router~"))
    });
    let message = match (role.text(), inbound) {
        (Some("client"), true) => {
            "an inbound listener's requests are served here: \"server\", or \"auto\""
        }
        (Some("gateway"), true) => "an inbound listener is a sidecar's: \"server\", or \"auto\"",
        (Some("server"), false) if !is_router => {
            "an outbound listener's requests are sent from here: \"client\", or \"auto\""
        }
        _ => return,
    };
    findings.add(Code::RoleContradicts, role, message);
}

/// Checks the role in a plugin whose `match` names one direction.
fn role_of_mesh(plugin: &Plugin<'_>, report: Node<'_>, findings: &mut Findings) {
    let Some(role) = report.get("role").filter(|_| plugin.host == Host::Istio) else {
        return;
    };
    let around = plugin.node.parent();
    let own = |key: &str| {
        plugin
            .node
            .get(key)
            .or_else(|| around.and_then(|around| around.get(key)))
    };
    let modes: Vec<_> = own("match")
        .into_iter()
        .flat_map(Node::items)
        .filter_map(|entry| entry.text_at(&["mode"]))
        .collect();
    let all = |mode: &str| !modes.is_empty() && modes.iter().all(|own| *own == mode);
    let is_gateway = own("target_refs").is_some()
        || own("selector").is_some_and(|selector| {
            let labels = selector.get("match_labels");
            let mut labels = labels.into_iter().flat_map(Node::entries);
            labels.any(|(key, value)| {
                key == "istio"
                    || value
                        .scalar()
                        .is_some_and(|value| value.contains("gateway"))
            })
        });
    let message = match role.text() {
        Some("client" | "gateway") if all("SERVER") => {
            "`match` names what comes in (mode: SERVER), which is served here: \"server\", or \
             \"auto\""
        }
        Some("server") if all("CLIENT") && !is_gateway => {
            "`match` names what goes out (mode: CLIENT), which is sent from here: \"client\", or \
             \"auto\""
        }
        _ => return,
    };
    findings.add(Code::RoleContradicts, role, message);
}
