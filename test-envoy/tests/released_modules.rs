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
    for name in ["trace_context", "route_sampling"] {
        check(name);
    }
}

fn check(name: &str) {
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
    assert_eq!(
        expected,
        BTreeSet::from(["proxy_on_request_headers".to_owned()]),
        "{name}"
    );
    expected.extend(ALWAYS.map(str::to_owned));
    assert_eq!(exports, expected, "{name}");
}
