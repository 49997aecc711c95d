//! `envoy.bootstrap.dynamic_modules`: the extension `mesh_tracing_flush`.

use core::ffi::c_void;
use core::ptr;

use meshtrace_plugin_config::native;

use super::inert;
use crate::boundary::guard;
use crate::call;
use crate::flush;
use crate::sys::{Buffer, Completion, EnvoyPtr, LogLevel};

/// The address of an object. Any address will do, because it is never read.
static NOTHING: u8 = 0;

/// Creates a configuration, on the main thread. Null refuses it, and Envoy does not start.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_new(
    config: EnvoyPtr,
    name: Buffer,
    _content: Buffer,
) -> *const u8 {
    guard(ptr::null(), || {
        // SAFETY: Envoy lends the range for this call.
        if let Err(refusal) = native::refuse_extension(unsafe { name.bytes() }) {
            call::log(
                LogLevel::Error,
                &format!("{refusal} (the extension is refused)"),
            );
            return ptr::null();
        }
        // No listener opens before this call.
        // SAFETY: it is the configuration of this hook.
        unsafe { call::signal_init_complete(config) };
        &raw const NOTHING
    })
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_new() -> *const u8 {
    &raw const NOTHING
}

/// Envoy is about to end. It waits until `completion` is called.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_shutdown(
    _extension: EnvoyPtr,
    _own: *const u8,
    completion: Option<Completion>,
    context: *mut c_void,
) {
    guard((), || {
        if let Some(completion) = completion {
            // SAFETY: Envoy waits for the completion on this thread.
            unsafe { flush::ask(completion, context) };
        }
    });
}

inert! {
    envoy_dynamic_module_on_bootstrap_extension_config_destroy;
    envoy_dynamic_module_on_bootstrap_extension_server_initialized;
    envoy_dynamic_module_on_bootstrap_extension_worker_thread_initialized;
    envoy_dynamic_module_on_bootstrap_extension_destroy;
    envoy_dynamic_module_on_bootstrap_extension_drain_started;
    envoy_dynamic_module_on_bootstrap_extension_config_scheduled;
    envoy_dynamic_module_on_bootstrap_extension_http_callout_done;
    envoy_dynamic_module_on_bootstrap_extension_timer_fired;
    envoy_dynamic_module_on_bootstrap_extension_file_changed;
    envoy_dynamic_module_on_bootstrap_extension_admin_request -> u32 = 0;
    envoy_dynamic_module_on_bootstrap_extension_cluster_add_or_update;
    envoy_dynamic_module_on_bootstrap_extension_cluster_removal;
    envoy_dynamic_module_on_bootstrap_extension_listener_add_or_update;
    envoy_dynamic_module_on_bootstrap_extension_listener_removal;
}
