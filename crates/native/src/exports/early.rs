//! `envoy.http.early_header_mutation.dynamic_modules`: the extension `mesh_tracing_lines`. Envoy has
//! it from 1.40 on, and runs it before the tracer.

use core::ptr;

use super::inert;
use crate::boundary::guard;
use crate::call::{self, EarlyHeaders};
use crate::lines;
use crate::sys::{Buffer, EnvoyPtr, LogLevel};

const NAME: &[u8] = b"mesh_tracing_lines";

/// The address of an object. Any address will do, because it is never read.
static NOTHING: u8 = 0;

/// Creates a configuration, on the main thread. Null refuses it.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_early_header_mutation_config_new(
    _config: EnvoyPtr,
    name: Buffer,
    content: Buffer,
) -> *const u8 {
    guard(ptr::null(), || {
        // SAFETY: Envoy lends both ranges for this call.
        let (name, content) = unsafe { (name.bytes(), content.bytes()) };
        let refusal = match (name, content) {
            (NAME, b"" | b"{}") => return &raw const NOTHING,
            (NAME, _) => "mesh_tracing_lines: expected no `early_header_mutation_config`",
            _ => "early_header_mutation_name: unknown extension, expected \"mesh_tracing_lines\"",
        };
        let line = format!("{refusal} (the extension is refused)");
        call::log(LogLevel::Error, &line);
        ptr::null()
    })
}

/// A request has come, and no other extension has seen it. Returns whether the next early header
/// mutation may run.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_early_header_mutation_mutate(
    _own: *const u8,
    headers: EnvoyPtr,
) -> bool {
    guard((), || {
        // SAFETY: Envoy lends the headers for this call.
        if let Some(mut headers) = unsafe { EarlyHeaders::new(headers) } {
            lines::join(&mut headers);
        }
    });
    true
}

inert! {
    envoy_dynamic_module_on_early_header_mutation_config_destroy;
}
