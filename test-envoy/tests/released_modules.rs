//! What the released modules export: no callback that their composition does not need.

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::module;

/// What every filter's life needs, whatever its composition.
const ALWAYS: [&str; 8] = [
    "_initialize",
    "memory",
    "proxy_abi_version_0_2_1",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_memory_allocate",
    "proxy_on_vm_start",
];

#[test]
fn a_module_exports_its_composition_s_callbacks_and_no_others() {
    check("trace_context", &["proxy_on_request_headers"]);
    check(
        "access_log_trace",
        &[
            "proxy_on_log",
            "proxy_on_request_headers",
            "proxy_on_response_headers",
        ],
    );
    check(
        "span_attributes",
        &["proxy_on_request_headers", "proxy_on_response_headers"],
    );
    check("route_sampling", &["proxy_on_request_headers"]);
    check(
        "mesh_tracing",
        &[
            "proxy_on_done",
            "proxy_on_http_call_response",
            "proxy_on_log",
            "proxy_on_request_headers",
            "proxy_on_response_headers",
            "proxy_on_tick",
        ],
    );
}

#[test]
fn every_module_has_a_schema_of_its_configuration() {
    let modules = fs::read_dir(common::root().join("dist")).expect("dist/");
    let mut count = 0;
    for path in modules.map(|entry| entry.expect("an entry").path()) {
        if path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        let name = path.file_stem().expect("a name").to_string_lossy();
        let schema = common::text(&format!("dist/schema/{name}.json"));
        let schema: serde_json::Value = serde_json::from_str(&schema).expect("JSON");
        assert_eq!(schema["title"], *name);
        count += 1;
    }
    assert!(count >= 2, "only {count} modules");
}

fn check(name: &str, needed: &[&str]) {
    let bytes = fs::read(module(name)).expect("the module");
    let mut exports = BTreeSet::new();
    let mut callbacks = None;
    for payload in wasmparser::Parser::new(0).parse_all(&bytes) {
        match payload.expect("a valid module") {
            wasmparser::Payload::ExportSection(section) => {
                let names = section
                    .into_iter()
                    .map(|export| export.expect("an export").name);
                exports.extend(names.map(str::to_owned));
            }
            wasmparser::Payload::CustomSection(section)
                if section.name() == "meshtrace.callbacks" =>
            {
                let text = std::str::from_utf8(section.data()).expect("UTF-8");
                callbacks = Some(text.lines().map(str::to_owned).collect::<BTreeSet<_>>());
            }
            _ => {}
        }
    }
    let mut expected = callbacks.expect("the list of the composition's callbacks");
    let needed: BTreeSet<_> = needed.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(expected, needed, "{name}");
    expected.extend(ALWAYS.map(str::to_owned));
    assert_eq!(exports, expected, "{name}");
}
