//! The configurations of plugins, each without its surroundings.

use crate::document::Node;
use crate::files::Files;
use crate::filter::{self, Filter};
use crate::finding::{Code, Findings};
use crate::model::Model;
use crate::model::plugin::{Config, Host, Plugin};

use super::schema;

/// Finds mistakes, and returns the places of the plugins whose configuration is refused.
pub(super) fn check(model: &Model<'_>, findings: &mut Findings) -> Vec<usize> {
    let mut refused = Vec::new();
    for (place, plugin) in model.plugins.iter().enumerate() {
        let before = findings.all.len();
        match plugin.config {
            Config::Absent => absent(plugin, findings),
            Config::Unreadable => unreadable(plugin, model.files, findings),
            Config::Read(node) => read(plugin, node, findings),
        }
        if findings.all.len() > before {
            refused.push(place);
        }
        does_nothing(plugin, findings);
        variables(plugin, findings);
    }
    for (document, filters) in &model.unsure {
        let names: Vec<_> = filters
            .iter()
            .map(|filter| filter.name().replace('_', "-"))
            .collect();
        let message = format!(
            "this may be the configuration of {}; say whose it is: --filter {}",
            super::suggest::list(names.clone()),
            names.first().map_or("trace-context", String::as_str),
        );
        findings.add(Code::WhichFilter, *document, message);
    }
    refused
}

/// Finds a native tracer without a configuration. It refuses that, and a Wasm filter does not.
fn absent(plugin: &Plugin<'_>, findings: &mut Findings) {
    if plugin.is_native()
        && let Some(refusal) = filter::native_refusals(b"").first()
    {
        let (key, reason) = (&refusal.path, &refusal.reason);
        let message = format!("{key}: {reason}; write it into `tracer_config`");
        findings.add(Code::Refused, plugin.node, message);
    }
}

/// Finds a configuration that does not reach the filter as JSON.
fn unreadable(plugin: &Plugin<'_>, files: &Files, findings: &mut Findings) {
    let Some(message) = plugin.written else {
        return;
    };
    let text = message.get("value");
    if let Some(Err(error)) = text.and_then(|text| files.within(text)) {
        let path = text.map(Node::path).unwrap_or_default();
        let message = format!("not JSON: {}", error.message);
        findings.add_at(
            Code::NotJson,
            message_input(plugin),
            error.at,
            path,
            message,
        );
        return;
    }
    let kind = message.type_url().unwrap_or_default();
    let advice = "write the JSON as text into {\"@type\": \
                  type.googleapis.com/google.protobuf.StringValue, value: '{…}'}";
    let message_text = if kind == "google.protobuf.Struct" {
        format!(
            "a Struct reaches the filter as protobuf and not as JSON, so that it refuses it; \
             {advice}"
        )
    } else if kind.is_empty() {
        format!("a configuration without \"@type\" is refused by Envoy; {advice}")
    } else if kind == "google.protobuf.BytesValue" {
        return;
    } else {
        format!("{kind} does not reach the filter as JSON; {advice}")
    };
    findings.add(Code::Struct, message, message_text);
}

fn message_input(plugin: &Plugin<'_>) -> usize {
    plugin.node.input()
}

fn read(plugin: &Plugin<'_>, node: Node<'_>, findings: &mut Findings) {
    if !node.is_map() {
        let message = format!(
            "{} is not a configuration; expected a map such as {{}}",
            node.describe()
        );
        findings.add(Code::WrongValue, node, message);
        return;
    }
    let before = findings.all.len();
    let shown_by_schema = schema::check(plugin.filter, node, findings);
    let shown = findings.all.iter().skip(before);
    let shown: Vec<_> = shown.map(|(_, place, _)| place.path.clone()).collect();
    let text = plugin
        .written
        .filter(|message| message.type_url().is_some())
        .and_then(|message| message.text_at(&["value"]));
    let json = match text {
        Some(text) => text.to_owned(),
        None => node.to_json().to_string(),
    };
    let mut refusals = plugin.filter.refusals(json.as_bytes());
    if plugin.is_native() {
        let only_native = filter::native_refusals(json.as_bytes()).into_iter();
        refusals.extend(only_native.filter(|refusal| !refusal.is_of_reading));
    }
    for refusal in refusals {
        if refusal.is_of_reading && shown_by_schema > 0 {
            continue;
        }
        let at = follow(node, &refusal.path);
        let path = at.path();
        // The schema may have told of the same value, in other words.
        if shown
            .iter()
            .any(|one| one.starts_with(&path) || path.starts_with(one))
        {
            continue;
        }
        findings.add(Code::Refused, at, refusal.reason);
    }
}

/// The node at a path such as `attributes[2].from`, or the last one before it.
fn follow<'t>(root: Node<'t>, path: &str) -> Node<'t> {
    let mut node = root;
    let mut rest = path;
    while !rest.is_empty() {
        // A key may contain dots, for example in a map with names as keys.
        let next = if let Some(inner) = rest.strip_prefix('[') {
            let (place, behind) = inner.split_once(']').unwrap_or((inner, ""));
            rest = behind.strip_prefix('.').unwrap_or(behind);
            place
                .parse()
                .ok()
                .and_then(|place: usize| node.items().nth(place))
        } else if let Some(child) = node.get_exactly(rest) {
            rest = "";
            Some(child)
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let key = rest.get(..end).unwrap_or_default();
            let behind = rest.get(end..).unwrap_or_default();
            rest = behind.strip_prefix('.').unwrap_or(behind);
            node.get_exactly(key)
        };
        match next {
            Some(next) => node = next,
            None => return node,
        }
    }
    node
}

fn does_nothing(plugin: &Plugin<'_>, findings: &mut Findings) {
    // The native tracer refuses a configuration that does nothing.
    if plugin.is_native() {
        return;
    }
    // A configuration without anything that loads it may be only a part.
    if plugin.host == Host::Nobody
        && plugin
            .map()
            .is_some_and(|map| map.entries().next().is_some())
    {
        return;
    }
    let at = plugin.written.unwrap_or(plugin.node);
    let empty = match plugin.config {
        Config::Absent => true,
        Config::Read(node) => node.is_map() && node.entries().all(|(_, value)| value.is_null()),
        Config::Unreadable => false,
    };
    match plugin.filter {
        Filter::MeshTracing => {
            let has_stage = plugin.map().is_some_and(|map| {
                [
                    "trace_context",
                    "sampling",
                    "span_attributes",
                    "access_log",
                    "report",
                ]
                .iter()
                .any(|stage| map.get(stage).is_some())
            });
            let is_known = matches!(plugin.config, Config::Absent)
                || plugin
                    .map()
                    .is_some_and(|map| map.entries().all(|(key, _)| key == "request_headers"));
            if is_known && !has_stage {
                findings.add(
                    Code::DoesNothing,
                    at,
                    "mesh_tracing without a stage changes nothing; for spans: {\"report\": \
                     {\"cluster\": \"…\"}}",
                );
            }
        }
        Filter::RouteSampling if empty => findings.add(
            Code::DoesNothing,
            at,
            "route_sampling without rules and without a default leaves every decision as it is; \
             add `rules` or `default`",
        ),
        _ => {}
    }
}

/// Finds secrets that are not in the environment.
fn variables(plugin: &Plugin<'_>, findings: &mut Findings) {
    // The native tracer has the environment of Envoy itself.
    if matches!(plugin.host, Host::Nobody) || plugin.is_native() {
        return;
    }
    let mut wanted = Vec::new();
    let attributes = plugin.stage(Filter::SpanAttributes);
    for attribute in attributes
        .into_iter()
        .flat_map(|stage| stage.list("attributes"))
    {
        for transform in attribute.list("transform") {
            let key = transform.at(&["hmac_sha256", "key_env"]);
            wanted.extend(key.map(|key| (key, "the attribute is left out of every span")));
        }
        let variable = attribute.at(&["from", "env"]);
        wanted.extend(variable.map(|key| (key, "the attribute has no value")));
    }
    let force = plugin.stage(Filter::RouteSampling);
    let force = force.and_then(|stage| stage.at(&["force", "value_env"]));
    wanted.extend(force.map(|key| (key, "`force` is off")));
    for (key, effect) in wanted {
        let Some(name) = key.text() else { continue };
        if plugin.environment.contains(&name) {
            continue;
        }
        let place = match plugin.host {
            Host::Envoy | Host::EnvoyFilter | Host::Nobody => {
                "name it in vm_config.environment_variables (host_env_keys or key_values)"
            }
            Host::Istio => "name it in vmConfig.env (valueFrom: HOST, or a value)",
            Host::Gateway => "name it in env.hostKeys",
        };
        let message =
            format!("the plugin's environment has no variable {name}, so {effect}; {place}");
        findings.add(Code::MissingVariable, key, message);
    }
}
