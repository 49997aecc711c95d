//! What the released modules export: no callback that their composition does not need; and how
//! large they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use meshtrace_test_support::common::{self, module};

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
            "proxy_on_response_trailers",
            "proxy_on_tick",
        ],
    );
}

/// A module, the bytes that it may have, and those that one of its functions may have.
///
/// They hold down the memory of a proxy: docs/performance.md, Memory. The largest functions are
/// those that compile a configuration.
const SIZES: [(&str, usize, usize); 5] = [
    ("access_log_trace", 168_000, 6_000),
    ("mesh_tracing", 580_000, 8_000),
    ("route_sampling", 313_000, 8_000),
    ("span_attributes", 229_500, 8_000),
    ("trace_context", 224_000, 5_300),
];

/// What a standard library has that was not built for size: the text of a panic.
const PANIC: &str = "panic_with_hook";

#[test]
fn a_module_and_its_functions_are_small_enough_to_compile_in_little_memory() {
    let modules: BTreeSet<_> = SIZES.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(modules, released(), "each has its limits");
    for (name, most, most_of_a_function) in SIZES {
        let bytes = fs::read(module(name)).expect("the module");
        let functions = functions(&bytes);
        // Where there is no source of the standard library, it is not built for size: docs/toolchain.md.
        let is_ready_made = functions.iter().any(|(name, _)| name.contains(PANIC));
        let most = match is_ready_made {
            true => most * 3 / 2,
            false => most,
        };
        let large: Vec<_> = functions
            .into_iter()
            .filter(|(_, size)| *size > most_of_a_function)
            .collect();
        assert!(
            large.is_empty(),
            "{name}: functions of more than {most_of_a_function} bytes; split them, with #[inline(never)] at the seams \
             (what is inlined into them is missing from the module): {large:#?}"
        );
        assert!(
            bytes.len() <= most,
            "{name}: {} bytes, more than {most}; a byte costs a proxy many: is there code that does the same, \
             or a dependency that is not worth it?",
            bytes.len()
        );
    }
}

/// The names of the modules in dist/.
fn released() -> BTreeSet<String> {
    let files = fs::read_dir(common::root().join("dist")).expect("dist/");
    files
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "wasm")
        })
        .map(|path| {
            path.file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

/// The names of a module's own functions, and the size of their bodies in bytes.
fn functions(module: &[u8]) -> Vec<(String, usize)> {
    let mut imported = 0;
    let mut names = BTreeMap::new();
    let mut sizes = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(module) {
        match payload.expect("a valid module") {
            wasmparser::Payload::ImportSection(section) => imported = section.count() as usize,
            wasmparser::Payload::CodeSectionEntry(body) => sizes.push(body.range().len()),
            wasmparser::Payload::CustomSection(section) => {
                let wasmparser::KnownCustom::Name(subsections) = section.as_known() else {
                    continue;
                };
                for subsection in subsections {
                    if let wasmparser::Name::Function(map) = subsection.expect("names") {
                        let map = map.into_iter().map(|naming| naming.expect("a name"));
                        names.extend(
                            map.map(|naming| (naming.index as usize, naming.name.to_owned())),
                        );
                    }
                }
            }
            _ => {}
        }
    }
    assert!(
        !names.is_empty() && !sizes.is_empty(),
        "a module with names"
    );
    let name = |i: usize| names.get(&(imported + i)).cloned().unwrap_or_default();
    sizes
        .into_iter()
        .enumerate()
        .map(|(i, size)| (name(i), size))
        .collect()
}

#[test]
fn every_module_has_a_schema_of_its_configuration() {
    let modules = released();
    assert!(modules.len() >= 2, "only {modules:?}");
    for name in modules {
        let schema = common::text(&format!("dist/schema/{name}.json"));
        let schema: serde_json::Value = serde_json::from_str(&schema).expect("JSON");
        assert_eq!(schema["title"], *name);
    }
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
