//! `envoy.bootstrap.dynamic_modules`: the extension `mesh_tracing_flush`.

use core::ffi::c_void;
use core::ptr;
use std::sync::Arc;

use meshtrace_plugin_config::native;

use super::filter::{call_landed, with};
use super::inert;
use crate::boundary::guard;
use crate::call::{self, Caller, Extension};
use crate::flush;
use crate::send::Sender;
use crate::sys::{Buffer, Completion, EnvoyPtr, HeaderLine, LogLevel};

/// Creates a configuration, on the main thread. Null refuses it, and Envoy does not start.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_new(
    config: EnvoyPtr,
    name: Buffer,
    _content: Buffer,
) -> *const Sender {
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
        // SAFETY: the configuration lives until `config_destroy`, which ends the sender.
        Arc::into_raw(Sender::new(unsafe {
            Caller::new(config, Extension::Bootstrap)
        }))
    })
}

/// Creates the extension, which is its configuration's.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_new(
    sender: *const Sender,
    _extension: EnvoyPtr,
) -> *const Sender {
    sender
}

/// Envoy has its clusters, and takes calls from now on: earlier ones end 1.38.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_server_initialized(
    _extension: EnvoyPtr,
    sender: *const Sender,
) {
    // SAFETY: it came from `config_new`.
    unsafe {
        with(sender, |sender| {
            let _ = sender.enter();
        });
    }
}

/// The process ends.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_destroy(
    sender: *const Sender,
) {
    guard((), || {
        // SAFETY: it came from `config_new`, and Envoy does not use it any more.
        let sender = unsafe { Arc::from_raw(sender) };
        sender.close();
        flush::report_late();
    });
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_scheduled(
    _config: EnvoyPtr,
    sender: *const Sender,
    _event: u64,
) {
    // SAFETY: the configuration is Envoy's.
    unsafe { with(sender, Sender::run) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_http_callout_done(
    _config: EnvoyPtr,
    sender: *const Sender,
    id: u64,
    result: u32,
    headers: *const HeaderLine,
    count: usize,
    body: *const Buffer,
    parts: usize,
) {
    // SAFETY: the configuration is Envoy's, and the answer is lent for this call.
    unsafe { call_landed(sender, id, result, (headers, count), (body, parts)) }
}

/// Envoy is about to end. It waits until `completion` is called.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_shutdown(
    _extension: EnvoyPtr,
    _sender: *const Sender,
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
    envoy_dynamic_module_on_bootstrap_extension_worker_thread_initialized;
    envoy_dynamic_module_on_bootstrap_extension_destroy;
    envoy_dynamic_module_on_bootstrap_extension_drain_started;
    envoy_dynamic_module_on_bootstrap_extension_timer_fired;
    envoy_dynamic_module_on_bootstrap_extension_file_changed;
    envoy_dynamic_module_on_bootstrap_extension_admin_request -> u32 = 0;
    envoy_dynamic_module_on_bootstrap_extension_cluster_add_or_update;
    envoy_dynamic_module_on_bootstrap_extension_cluster_removal;
    envoy_dynamic_module_on_bootstrap_extension_listener_add_or_update;
    envoy_dynamic_module_on_bootstrap_extension_listener_removal;
}
