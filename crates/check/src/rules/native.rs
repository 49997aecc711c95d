//! What `libmeshtrace.so` refuses: the names of its parts, and the configuration of the one that
//! has none. What it refuses of a tracer's configuration is with the other configurations.

use meshtrace_plugin_config::native;

use crate::document::{Node, Tree};
use crate::filter::listed;
use crate::finding::{Code, Findings};
use crate::model::Model;

pub(super) fn check(model: &Model<'_>, findings: &mut Findings) {
    for part in model.files.trees.iter().flat_map(Tree::maps) {
        if part.text_at(&["dynamic_module_config", "name"]) != Some("meshtrace") {
            continue;
        }
        let kind = part.type_url().unwrap_or_default();
        let name = |key: &str| part.text_at(&[key]).unwrap_or_default().as_bytes();
        let refused = if kind.ends_with(".DynamicModuleTracer") {
            native::refuse_tracer(name("tracer_name"))
        } else if kind.ends_with(".DynamicModuleFilter") {
            let content = content(part.get("filter_config"));
            native::refuse_filter(name("filter_name"), content.as_bytes())
        } else if kind.ends_with(".DynamicModuleBootstrapExtension") {
            native::refuse_extension(name("extension_name"))
        } else {
            Ok(())
        };
        if let Err(error) = refused {
            for refusal in listed(&error, "") {
                let at = part.get(&refusal.path).unwrap_or(part);
                findings.add(Code::Refused, at, refusal.reason);
            }
        }
    }
}

/// A configuration as it reaches the module.
fn content(message: Option<Node<'_>>) -> String {
    let Some(message) = message else {
        return String::new();
    };
    match message.type_url() {
        Some("google.protobuf.StringValue" | "google.protobuf.BytesValue") => {
            message.text_at(&["value"]).unwrap_or_default().to_owned()
        }
        Some("google.protobuf.Struct") => message
            .get("value")
            .map_or_else(String::new, |value| value.to_json().to_string()),
        _ => String::new(),
    }
}
