//! Removes from a linked proxy-wasm module what its filter does not need.
//!
//! The SDK exports every callback of the ABI, and a host calls every callback that a module
//! exports: for example twice a request for bodies that the filter never reads. A composition names
//! the callbacks that it needs in the custom section [`CALLBACKS_SECTION`], one in each line.
//! [`prune`] removes the other exports, and the code that only they reached. The names of functions
//! stay for the backtrace of a trap, in the form in which people write them.
//!
//! The tables of the SDK's traits reach its own calls of a host too, which no filter makes: they become
//! traps, so that their code and imports go.
//!
//! A filter cannot define a callback that the SDK defines already. It exports `meshtrace_on_*`
//! instead, which replaces `proxy_on_*` of the SDK.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt;

use walrus::{ExportId, FunctionBuilder, FunctionId, FunctionKind, Module, ModuleConfig};

/// The custom section with the names of the needed callbacks: UTF-8, one `proxy_on_*` name a line.
pub const CALLBACKS_SECTION: &str = "meshtrace.callbacks";

/// The exports without which a host cannot load a module. An allocator is needed too, under either
/// of its two names.
const REQUIRED: [&str; 2] = ["memory", "proxy_abi_version_0_2_1"];
const ALLOCATORS: [&str; 2] = ["malloc", "proxy_on_memory_allocate"];

/// The SDK's own calls of a host. The tables of its traits reach them, and no filter calls one: the
/// host crate declares what it calls itself.
const SDK_CALLS: &str = "proxy_wasm::hostcalls::";

/// The prefix of a callback that replaces the SDK's, in place of `proxy_on_`.
const OWN_PREFIX: &str = "meshtrace_on_";

/// The callbacks that create and end the contexts of every filter. Without `proxy_on_delete` the
/// SDK never frees a context.
const LIFECYCLE: [&str; 4] = [
    "proxy_on_context_create",
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_delete",
];

/// Why a module could not be pruned.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The input is not a WebAssembly module, or cannot be read as one.
    NotWasm(String),
    /// The module has no list of the callbacks that it needs.
    NoCallbacksSection,
    /// The custom section does not hold UTF-8.
    CallbacksNotUtf8,
    /// A line of the custom section is not the name of a callback.
    NotACallback(String),
    /// A needed callback is not among the module's exports.
    MissingCallback(String),
    /// An export that every host needs is missing in the module.
    MissingExport(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWasm(why) => write!(f, "not a WebAssembly module: {why}"),
            Self::NoCallbacksSection => write!(
                f,
                "no custom section `{CALLBACKS_SECTION}`: the module does not say which callbacks it needs"
            ),
            Self::CallbacksNotUtf8 => {
                write!(f, "the custom section `{CALLBACKS_SECTION}` is not UTF-8")
            }
            Self::NotACallback(line) => write!(
                f,
                "the custom section `{CALLBACKS_SECTION}` lists {line:?}, which is not a proxy_on_* name"
            ),
            Self::MissingCallback(name) => write!(
                f,
                "the custom section `{CALLBACKS_SECTION}` lists `{name}`, which the module does not export"
            ),
            Self::MissingExport(name) => write!(
                f,
                "the module does not export {name}: no proxy-wasm host can load it"
            ),
        }
    }
}

impl std::error::Error for Error {}

/// The module without the callbacks that its own custom section does not list, and without the code
/// that only they reached.
///
/// # Errors
/// When `wasm` is not a module, does not list its callbacks, or lacks an export that it lists or a
/// host needs.
pub fn prune(wasm: &[u8]) -> Result<Vec<u8>, Error> {
    if !wasm.starts_with(b"\0asm") {
        return Err(Error::NotWasm("it does not begin with \\0asm".to_owned()));
    }
    let mut module = ModuleConfig::new()
        .generate_name_section(true)
        .parse(wasm)
        .map_err(|why| Error::NotWasm(format!("{why:#}")))?;

    replace_callbacks(&mut module);
    let needed = needed_callbacks(&module)?;
    let exported: BTreeSet<String> = module.exports.iter().map(|e| e.name.clone()).collect();
    if let Some(missing) = needed.iter().find(|name| !exported.contains(*name)) {
        return Err(Error::MissingCallback(missing.clone()));
    }
    if let Some(missing) = REQUIRED.iter().find(|name| !exported.contains(**name)) {
        return Err(Error::MissingExport(format!("`{missing}`")));
    }
    if !ALLOCATORS.iter().any(|name| exported.contains(*name)) {
        return Err(Error::MissingExport(
            "an allocator (`malloc` or `proxy_on_memory_allocate`)".to_owned(),
        ));
    }

    let stays = |name: &str| {
        !name.starts_with("proxy_on_")
            || LIFECYCLE.contains(&name)
            || ALLOCATORS.contains(&name)
            || needed.contains(name)
    };
    let unneeded: Vec<ExportId> = module
        .exports
        .iter()
        .filter(|export| !stays(&export.name))
        .map(|export| export.id())
        .collect();
    for id in unneeded {
        module.exports.delete(id);
    }
    empty_sdk_calls(&mut module);
    walrus::passes::gc::run(&mut module);
    demangle(&mut module);
    Ok(module.emit_wasm())
}

/// Makes a trap of each of the [`SDK_CALLS`]. With their code the imports go that only they need.
fn empty_sdk_calls(module: &mut Module) {
    let is_call =
        |name: &str| format!("{:#}", rustc_demangle::demangle(name)).starts_with(SDK_CALLS);
    let calls: Vec<FunctionId> = module
        .funcs
        .iter_local()
        .map(|(id, _)| id)
        .filter(|id| module.funcs.get(*id).name.as_deref().is_some_and(is_call))
        .collect();
    for id in calls {
        let (parameters, results) = module.types.params_results(module.funcs.get(id).ty());
        let (parameters, results) = (parameters.to_vec(), results.to_vec());
        let mut body = FunctionBuilder::new(&mut module.types, &parameters, &results);
        body.func_body().unreachable();
        let arguments = parameters.iter().map(|kind| module.locals.add(*kind));
        let emptied = body.local_func(arguments.collect());
        module.funcs.get_mut(id).kind = FunctionKind::Local(emptied);
    }
}

/// Hosts print the names of a backtrace's functions as they are in the module.
fn demangle(module: &mut Module) {
    for function in module.funcs.iter_mut() {
        if let Some(name) = &mut function.name {
            // `#` leaves out the hash.
            *name = format!("{:#}", rustc_demangle::demangle(name));
        }
    }
}

/// Renames every callback of the filter's own to the name that hosts call. It replaces the SDK's
/// callback.
fn replace_callbacks(module: &mut Module) {
    let own: Vec<(ExportId, String)> = module
        .exports
        .iter()
        .filter_map(|export| {
            let rest = export.name.strip_prefix(OWN_PREFIX)?;
            Some((export.id(), format!("proxy_on_{rest}")))
        })
        .collect();
    for (id, name) in own {
        let replaced = module.exports.iter().find(|export| export.name == name);
        if let Some(replaced) = replaced.map(|export| export.id()) {
            module.exports.delete(replaced);
        }
        module.exports.get_mut(id).name = name;
    }
}

fn needed_callbacks(module: &Module) -> Result<BTreeSet<String>, Error> {
    let data = module
        .customs
        .iter()
        .find(|(_, section)| section.name() == CALLBACKS_SECTION)
        .map(|(_, section)| section.data(&Default::default()).into_owned())
        .ok_or(Error::NoCallbacksSection)?;
    let text = std::str::from_utf8(&data).map_err(|_| Error::CallbacksNotUtf8)?;
    text.lines()
        .filter(|line| !line.is_empty())
        .map(|line| match line.starts_with("proxy_on_") {
            true => Ok(line.to_owned()),
            false => Err(Error::NotACallback(line.to_owned())),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: &str = r#"
        (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "_initialize"))
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 0)
        (func (export "proxy_on_context_create") (param i32 i32))
        (func (export "proxy_on_vm_start") (param i32 i32) (result i32) i32.const 1)
        (func (export "proxy_on_configure") (param i32 i32) (result i32) i32.const 1)
        (func (export "proxy_on_delete") (param i32))
    "#;
    const CALLBACKS: &str = r#"
        (import "env" "proxy_log" (func $proxy_log (param i32 i32 i32) (result i32)))
        (import "env" "proxy_done" (func $proxy_done (result i32)))
        (func $headers (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) call $proxy_done)
        (func $body (export "proxy_on_request_body") (param i32 i32 i32) (result i32) call $only_body)
        (func $only_body (result i32) i32.const 0 i32.const 0 i32.const 0 call $proxy_log)
    "#;

    fn module(list: Option<&str>, text: &[&str]) -> Vec<u8> {
        let list = list.map_or(String::new(), |list| {
            format!(r#"(@custom "{CALLBACKS_SECTION}" "{list}")"#)
        });
        let imports_first: String = text.iter().rev().copied().collect();
        wat::parse_str(format!("(module {imports_first} {list})")).unwrap()
    }

    fn parse(wasm: &[u8]) -> Module {
        Module::from_buffer(wasm).unwrap()
    }

    fn exports(wasm: &[u8]) -> BTreeSet<String> {
        parse(wasm).exports.iter().map(|e| e.name.clone()).collect()
    }

    fn functions(wasm: &[u8]) -> BTreeSet<String> {
        parse(wasm)
            .funcs
            .iter()
            .filter_map(|f| f.name.clone())
            .collect()
    }

    fn prune_error(wasm: &[u8]) -> String {
        prune(wasm).unwrap_err().to_string()
    }

    #[test]
    fn keeps_what_is_listed_and_drops_what_is_not() {
        let input = module(Some("proxy_on_request_headers\\n"), &[LIFE, CALLBACKS]);
        let pruned = prune(&input).unwrap();
        let mut expected = exports(&input);
        assert!(expected.remove("proxy_on_request_body"));
        assert_eq!(exports(&pruned), expected);
        assert!(expected.contains("proxy_on_request_headers"));
    }

    #[test]
    fn function_names_become_legible() {
        let mangled = r#"
            (func $_ZN5other5thing17h0123456789abcdefE)
            (func (export "extra") call $_ZN5other5thing17h0123456789abcdefE)
        "#;
        let pruned = prune(&module(
            Some("proxy_on_request_headers"),
            &[LIFE, mangled, CALLBACKS],
        ));
        let names = functions(&pruned.unwrap());
        assert!(names.contains("other::thing"), "{names:?}");
        assert!(names.contains("headers"), "{names:?}");
    }

    #[test]
    fn a_callback_of_the_filter_s_own_takes_the_place_of_the_sdk_s() {
        let own = r#"(func $own (export "meshtrace_on_request_headers") (param i32 i32 i32) (result i32) i32.const 7)"#;
        let text = [LIFE, own, CALLBACKS];
        let pruned = prune(&module(Some("proxy_on_request_headers"), &text)).unwrap();
        let names = functions(&pruned);
        assert!(
            names.contains("own") && !names.contains("headers"),
            "{names:?}"
        );
        let exports = exports(&pruned);
        assert!(exports.contains("proxy_on_request_headers"), "{exports:?}");
        assert!(
            !exports.contains("meshtrace_on_request_headers"),
            "{exports:?}"
        );
        // And goes like any other where it is not listed.
        let pruned = prune(&module(Some("proxy_on_request_body"), &text)).unwrap();
        assert!(!functions(&pruned).contains("own"));
    }

    #[test]
    fn drops_what_only_a_dropped_callback_reached() {
        let input = module(Some("proxy_on_request_headers"), &[LIFE, CALLBACKS]);
        assert!(functions(&input).contains("only_body"));
        let pruned = prune(&input).unwrap();
        assert!(!functions(&pruned).contains("only_body"));
        let imports: Vec<String> = parse(&pruned)
            .imports
            .iter()
            .map(|i| i.name.clone())
            .collect();
        assert_eq!(imports, ["proxy_done"]);
    }

    #[test]
    fn what_the_sdk_calls_a_host_by_becomes_a_trap() {
        let call = |name: &str| {
            format!(
                r#"(func ${name} (export "extra") (param i32 i32) (result i64)
                    i32.const 0 i32.const 0 i32.const 0 call $proxy_log drop i64.const 1)"#
            )
        };
        for (name, is_emptied) in [
            ("_ZN10proxy_wasm9hostcalls3log17h0123456789abcdefE", true),
            ("_ZN10proxy_wasm10dispatcher3log17h0123456789abcdefE", false),
        ] {
            let text = [LIFE, &call(name), CALLBACKS];
            let pruned = prune(&module(Some("proxy_on_request_headers"), &text)).unwrap();
            let imports = parse(&pruned);
            let mut imports = imports.imports.iter();
            let is_left = imports.any(|import| import.name == "proxy_log");
            assert_eq!(is_left, !is_emptied, "{name}");
            assert!(exports(&pruned).contains("extra"), "{name}");
        }
    }

    #[test]
    fn keeps_function_names_and_the_list() {
        let input = module(Some("proxy_on_request_headers"), &[LIFE, CALLBACKS]);
        let pruned = prune(&input).unwrap();
        assert!(functions(&pruned).contains("headers"));
        assert_eq!(
            needed_callbacks(&parse(&pruned)).unwrap(),
            BTreeSet::from(["proxy_on_request_headers".to_owned()])
        );
    }

    #[test]
    fn an_empty_list_leaves_the_life_cycle() {
        let input = module(Some(""), &[LIFE, CALLBACKS]);
        assert_eq!(
            exports(&prune(&input).unwrap()),
            exports(&module(Some(""), &[LIFE]))
        );
    }

    #[test]
    fn pruning_again_changes_nothing() {
        let once = prune(&module(
            Some("proxy_on_request_headers"),
            &[LIFE, CALLBACKS],
        ))
        .unwrap();
        assert_eq!(prune(&once).unwrap(), once);
    }

    #[test]
    fn refuses_a_listed_callback_that_is_missing() {
        let input = module(
            Some("proxy_on_request_headers\\nproxy_on_log\\n"),
            &[LIFE, CALLBACKS],
        );
        assert!(prune_error(&input).contains("lists `proxy_on_log`, which the module does not"));
    }

    #[test]
    fn refuses_a_line_that_is_not_a_callback() {
        let input = module(Some("proxy_on_log on_tick"), &[LIFE]);
        assert!(prune_error(&input).contains("proxy_on_log on_tick"));
        let input = module(Some("malloc"), &[LIFE]);
        assert!(prune_error(&input).contains("\"malloc\", which is not a proxy_on_* name"));
        let input = module(Some("\\ff"), &[LIFE]);
        assert!(prune_error(&input).contains("not UTF-8"));
    }

    #[test]
    fn refuses_a_module_without_a_list() {
        assert!(
            prune_error(&module(None, &[LIFE])).contains("no custom section `meshtrace.callbacks`")
        );
    }

    #[test]
    fn refuses_what_no_host_can_load() {
        let without = |export: &str| {
            let text = LIFE.replace(&format!("\"{export}\""), "\"renamed\"");
            prune_error(&module(Some(""), &[&text]))
        };
        assert!(without("proxy_abi_version_0_2_1").contains("proxy_abi_version"));
        assert!(without("memory").contains("`memory`"));
        assert!(without("proxy_on_memory_allocate").contains("an allocator"));
    }

    #[test]
    fn accepts_malloc_as_the_allocator() {
        let input = module(
            Some(""),
            &[&LIFE.replace("proxy_on_memory_allocate", "malloc")],
        );
        assert!(exports(&prune(&input).unwrap()).contains("malloc"));
    }

    #[test]
    fn refuses_what_is_not_wasm() {
        assert!(prune_error(b"\x7fELF").contains("not a WebAssembly module"));
        assert!(prune_error(b"").contains("not a WebAssembly module"));
        assert!(prune_error(b"\0asm\x01\0\0\0\x01").contains("not a WebAssembly module"));
    }
}
