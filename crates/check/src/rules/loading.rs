//! How a module is loaded, and what happens where it is missing.

use crate::document::Node;
use crate::filter::Filter;
use crate::finding::{Code, Findings};
use crate::model::Model;
use crate::model::chain::Manager;
use crate::model::plugin::{Host, Plugin, formats};

pub(super) fn check(model: &Model<'_>, findings: &mut Findings) {
    for plugin in &model.plugins {
        if plugin.host == Host::Nobody {
            continue;
        }
        policy(plugin, findings);
        code(plugin, findings);
        digest(plugin, findings);
    }
    for manager in &model.managers {
        header_limit(model, manager, findings);
    }
    for kind in ["WasmPlugin", "TrafficExtension", "EnvoyExtensionPolicy"] {
        for resource in model.of_kind(kind) {
            unknown_filter(model, resource.node, findings);
        }
    }
}

fn policy(plugin: &Plugin<'_>, findings: &mut Findings) {
    let node = plugin.node;
    match plugin.host {
        Host::Nobody => {}
        // This is a part of a configuration, without the module.
        Host::Envoy if node.get("vm_config").is_none() => {}
        Host::Envoy | Host::EnvoyFilter => {
            let policy = node.get("failure_policy");
            let is_open = node.get("fail_open").and_then(Node::bool) == Some(true);
            let is_remote = plugin.host == Host::EnvoyFilter && is_image(plugin);
            let wanted = if plugin.host == Host::EnvoyFilter {
                "FAIL_OPEN"
            } else {
                "FAIL_RELOAD"
            };
            match policy.and_then(Node::scalar) {
                Some("FAIL_OPEN" | "3") => {}
                Some("FAIL_RELOAD" | "1") if is_remote => {
                    let message = "an image that cannot be fetched answers 403 to every request \
                                   with this policy: Istio's agent takes it for FAIL_CLOSED; set \
                                   failure_policy: FAIL_OPEN";
                    findings.add(Code::FailsRequests, policy.unwrap_or(node), message);
                }
                Some("FAIL_RELOAD" | "1") => {}
                Some("FAIL_CLOSED" | "2") => {
                    let message = format!(
                        "a module that fails answers 503 to every request; set failure_policy: \
                         {wanted}"
                    );
                    findings.add(Code::FailsRequests, policy.unwrap_or(node), message);
                }
                _ if is_open => {}
                _ => {
                    let message = format!(
                        "without a failure policy a module that fails answers 503 to every request \
                         from then on; add failure_policy: {wanted}"
                    );
                    findings.add(Code::FailsRequests, policy.unwrap_or(node), message);
                }
            }
        }
        // This is a part that is merged into a whole resource.
        Host::Istio | Host::Gateway if plugin.code.is_none() => {}
        Host::Istio => {
            let strategy = node.get("fail_strategy");
            match strategy.and_then(Node::scalar) {
                Some("FAIL_OPEN") => {}
                Some("FAIL_RELOAD") => {
                    let message = "a module that cannot be fetched answers 403 to every request: \
                                   Istio's agent takes FAIL_RELOAD for FAIL_CLOSE then; set \
                                   failStrategy: FAIL_OPEN";
                    findings.add(Code::FailsRequests, strategy.unwrap_or(node), message);
                }
                _ => {
                    let message = "a module that cannot be fetched or fails answers 403 or 503 to \
                                   every request, which is Istio's default; set failStrategy: \
                                   FAIL_OPEN";
                    findings.add(Code::FailsRequests, strategy.unwrap_or(node), message);
                }
            }
        }
        Host::Gateway => {
            let open = node.get("fail_open");
            if open.and_then(Node::bool) != Some(true) {
                let message = "a module that cannot be fetched or fails answers 500 to every \
                               request, which is Envoy Gateway's default; set failOpen: true";
                findings.add(Code::FailsRequests, open.unwrap_or(node), message);
            }
        }
    }
}

fn is_image(plugin: &Plugin<'_>) -> bool {
    plugin
        .code
        .and_then(Node::scalar)
        .is_some_and(|url| url.starts_with("oci://"))
}

fn code(plugin: &Plugin<'_>, findings: &mut Findings) {
    let Some(code) = plugin.code else { return };
    let url = code.scalar().unwrap_or_default();
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    let nobody = match (plugin.host, scheme) {
        (Host::Envoy, Some("oci")) => Some(
            "Envoy itself fetches no images; mount the module and name it in code.local.filename, \
             or serve it over HTTP",
        ),
        (Host::EnvoyFilter, Some("oci")) if !is_discovered(plugin) => Some(
            "Istio's agent fetches images for what is discovered, and for nothing that stands in \
             place; put the plugin into an EXTENSION_CONFIG patch with config_discovery, use a \
             WasmPlugin, or mount the module (code.local.filename)",
        ),
        (Host::Gateway, Some("oci")) => {
            Some("Envoy Gateway takes the image's name without a scheme; remove oci://")
        }
        (Host::Istio, Some(other)) if !matches!(other, "oci" | "http" | "https" | "file") => {
            Some("expected a URL with oci, http, https or file, or an image's name")
        }
        _ => None,
    };
    if let Some(reason) = nobody {
        findings.add(Code::NobodyFetches, code, reason);
    }
    let is_placeholder = [
        "registry.example.com",
        "example.com/",
        "your-registry",
        "<registry>",
        "REGISTRY/",
    ]
    .iter()
    .any(|text| url.contains(text));
    if is_placeholder {
        let message =
            "this registry is a placeholder; put in yours, and the digest that `make push` prints";
        findings.add(Code::Placeholder, code, message);
    }
}

/// Whether the plugin is in an `EXTENSION_CONFIG` patch.
fn is_discovered(plugin: &Plugin<'_>) -> bool {
    let mut here = Some(plugin.node);
    while let Some(node) = here {
        if node.is_map() && node.text_at(&["apply_to"]) == Some("EXTENSION_CONFIG") {
            return true;
        }
        here = node.parent();
    }
    false
}

fn digest(plugin: &Plugin<'_>, findings: &mut Findings) {
    let digest = match plugin.host {
        Host::Envoy | Host::EnvoyFilter => {
            plugin.node.at(&["vm_config", "code", "remote", "sha256"])
        }
        Host::Istio => plugin.node.get("sha256"),
        Host::Gateway => plugin
            .node
            .at(&["code", "image", "sha256"])
            .or_else(|| plugin.node.at(&["code", "http", "sha256"])),
        Host::Nobody => None,
    };
    let url = match plugin.host {
        Host::Istio => plugin.node.get("url"),
        Host::Gateway => plugin.node.at(&["code", "image", "url"]),
        Host::Envoy | Host::EnvoyFilter | Host::Nobody => None,
    };
    if let Some(digest) = digest {
        is_digest(digest, digest.scalar().unwrap_or_default(), findings);
    }
    if let Some((url, (_, text))) =
        url.and_then(|url| Some((url, url.text()?.split_once("@sha256:")?)))
    {
        is_digest(url, text, findings);
    }
}

/// Checks the digest `text` that stands at a node.
fn is_digest(digest: Node<'_>, text: &str, findings: &mut Findings) {
    let is_hex = text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex && text.bytes().all(|byte| byte == b'0') {
        let message = "this digest is a placeholder, and a fetch by it fails; put in the one that \
                       `make push` prints";
        findings.add(Code::Placeholder, digest, message);
    } else if !is_hex && !text.is_empty() {
        let advice = if text.starts_with("sha256:") {
            "write it without `sha256:`"
        } else {
            "expected 64 hexadecimal digits in lower case, as `make push` prints them"
        };
        findings.add(
            Code::BadDigest,
            digest,
            format!("this is not a SHA-256; {advice}"),
        );
    }
}

/// Compares the headers that filters add with the most headers that the next proxy of this kind
/// accepts.
fn header_limit(model: &Model<'_>, manager: &Manager<'_>, findings: &mut Findings) {
    /// The headers of a plain request: pseudo-headers, host, agent, and those that proxies add.
    const ORDINARY: usize = 16;
    let limit = manager
        .node
        .at(&["common_http_protocol_options", "max_headers_count"]);
    let Some((limit, most)) = limit.and_then(|node| Some((node, node.number()?))) else {
        return;
    };
    let added: usize = manager
        .filters
        .iter()
        .chain(&manager.upstream)
        .filter_map(|filter| model.plugin(filter))
        .map(added)
        .sum();
    let needed = ORDINARY + added;
    if added > 0 && most < f64::from(u32::try_from(needed).unwrap_or(u32::MAX)) {
        let message = format!(
            "the filters add up to {added} headers, so that an ordinary request leaves with more \
             than the {most} that a hop with this limit takes (431); set at least {needed}, or \
             leave Envoy's 100"
        );
        findings.add(Code::HeaderLimit, limit, message);
    }
}

fn added(plugin: &Plugin<'_>) -> usize {
    let mut count = 0;
    if plugin.has(Filter::TraceContext) || plugin.report().is_some() {
        let stage = plugin.stage(Filter::TraceContext);
        let inject = formats(stage, "inject", &["tracecontext", "b3multi"]);
        count += inject
            .iter()
            .map(|format| match *format {
                "b3multi" => 4,
                "datadog" | "ottrace" => 4,
                "tracecontext" => 2,
                _ => 1,
            })
            .sum::<usize>();
    }
    if let Some(stage) = plugin.stage(Filter::SpanAttributes)
        && stage.at(&["emit", "request_header_prefix"]).is_some()
    {
        count += match stage.get("attributes") {
            Some(list) => list.items().count(),
            None => 2,
        };
    }
    count
}

/// Finds an image of meshtrace whose name is not the name of a filter.
fn unknown_filter(model: &Model<'_>, resource: Node<'_>, findings: &mut Findings) {
    let spec = resource.get("spec");
    let urls = [
        spec.and_then(|spec| spec.get("url")),
        spec.and_then(|spec| spec.at(&["wasm", "url"])),
    ];
    let of_policy = spec
        .into_iter()
        .flat_map(|spec| spec.list("wasm"))
        .filter_map(|wasm| wasm.at(&["code", "image", "url"]));
    for url in urls.into_iter().flatten().chain(of_policy) {
        let text = url.scalar().unwrap_or_default();
        let is_known = model.plugins.iter().any(|plugin| plugin.code == Some(url));
        if is_known || !text.contains("meshtrace/") {
            continue;
        }
        let name = text.rsplit('/').next().unwrap_or(text);
        let name = name.split([':', '@']).next().unwrap_or(name);
        let names: Vec<_> = Filter::ALL.iter().map(|filter| filter.name()).collect();
        let message = format!(
            "{name:?} is not a filter of meshtrace; {}",
            super::suggest::values(name, &names, &[])
        );
        findings.add(Code::UnknownFilter, url, message);
    }
}
