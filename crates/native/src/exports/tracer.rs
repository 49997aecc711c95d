//! `envoy.tracers.dynamic_modules`: the tracer `mesh_tracing`.

use core::mem::ManuallyDrop;
use core::ptr;
use std::sync::Arc;

use meshtrace_config::ConfigError;

use super::inert;
use crate::boundary::guard;
use crate::call::{self, Carrier, TracerHandle};
use crate::plugin::Plugin;
use crate::send;
use crate::span::{self, Span};
use crate::sys::{Buffer, EnvoyPtr, LogLevel};
use crate::worker;

const NAME: &[u8] = b"mesh_tracing";

/// A configuration is made, on the main thread. Null refuses it.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_tracer_config_new(
    config: EnvoyPtr,
    name: Buffer,
    json: Buffer,
) -> *const Plugin {
    guard(ptr::null(), || {
        // SAFETY: Envoy lends both for this call.
        let (name, json) = unsafe { (name.bytes(), json.bytes()) };
        // SAFETY: the handle is used until `config_destroy`, or by a span, which keeps it alive.
        let handle = unsafe { TracerHandle::new(config) };
        let made = match name {
            NAME => Plugin::new(json, handle),
            _ => Err(ConfigError::new(
                "tracer_name",
                "unknown tracer, expected \"mesh_tracing\"",
            )),
        };
        match made {
            Ok((plugin, caution)) => {
                if let Some(caution) = caution {
                    call::log(LogLevel::Warn, caution);
                }
                Arc::into_raw(Arc::new(plugin))
            }
            Err(error) => {
                call::log(LogLevel::Error, &format!("{error} (the tracer is refused)"));
                ptr::null()
            }
        }
    })
}

/// A configuration ends, on whatever thread gave up its last span.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_tracer_config_destroy(plugin: *const Plugin) {
    guard((), || {
        // SAFETY: it came from `config_new`, and Envoy uses it no more.
        let plugin = unsafe { Arc::from_raw(plugin) };
        plugin.metrics.end();
        // What its spans have left goes out at once.
        send::wake_newest();
    });
}

/// A request has come. Null: it is not traced, and passes unchanged.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_tracer_start_span(
    plugin: *const Plugin,
    carrier: EnvoyPtr,
    operation: Buffer,
    // Envoy's own decision is not asked for: the rules decide, as in the Wasm filter.
    _traced: bool,
    _reason: u32,
) -> *mut Span {
    guard(ptr::null_mut(), || {
        // SAFETY: it came from `config_new`.
        let plugin = unsafe { worker::borrowed(plugin) };
        // SAFETY: Envoy lends both for this call.
        let (carrier, operation) = unsafe { (Carrier::new(carrier), operation.bytes()) };
        let span = worker::of(&plugin).and_then(|worker| span::start(worker, &carrier, operation));
        span.map_or(ptr::null_mut(), Box::into_raw)
    })
}

/// Runs `body` on the span that Envoy hands over.
///
/// # Safety
/// `span` came from `start_span` or `spawn_child`, and no other hook uses it now.
unsafe fn with<R>(span: *mut Span, otherwise: R, body: impl FnOnce(&mut Span) -> R) -> R {
    guard(otherwise, || {
        // SAFETY: as the caller says.
        body(unsafe { &mut *span })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_tracer_span_set_tag(
    span: *mut Span,
    key: Buffer,
    value: Buffer,
) {
    // SAFETY: the span is Envoy's, and both texts are lent for this call.
    unsafe { with(span, (), |span| span.tag(key.bytes(), value.bytes())) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_tracer_span_finish(span: *mut Span) {
    // SAFETY: the span is Envoy's.
    unsafe { with(span, (), Span::finish) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_tracer_span_inject_context(
    span: *mut Span,
    carrier: EnvoyPtr,
) {
    // SAFETY: both are Envoy's, the carrier for this call.
    unsafe { with(span, (), |span| span.inject(&mut Carrier::new(carrier))) }
}

/// A call on account of the span. Null: it is not traced.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_tracer_span_spawn_child(
    span: *mut Span,
    operation: Buffer,
    start_time: i64,
) -> *mut Span {
    // SAFETY: the span is Envoy's, and the name is lent for this call.
    unsafe {
        with(span, ptr::null_mut(), |span| {
            let child = span.child(operation.bytes(), start_time);
            child.map_or(ptr::null_mut(), Box::into_raw)
        })
    }
}

/// Whether Envoy may change the decision when the route has changed. The rules have decided, and
/// the next hop may have been told.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_tracer_span_use_local_decision() -> bool {
    false
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_tracer_span_get_trace_id(
    span: *mut Span,
    out: *mut Buffer,
) -> bool {
    // SAFETY: both are Envoy's; the text is read while the span lives.
    unsafe {
        with(span, false, |span| {
            out.write(Buffer::of(&span.trace_id_text));
            true
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_tracer_span_get_span_id(
    span: *mut Span,
    out: *mut Buffer,
) -> bool {
    // SAFETY: both are Envoy's; the text is read while the span lives.
    unsafe {
        with(span, false, |span| {
            out.write(Buffer::of(&span.span_id_text));
            true
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_tracer_span_destroy(span: *mut Span) {
    guard((), || {
        // SAFETY: it came from `start_span` or `spawn_child`, and Envoy uses it no more.
        let span = ManuallyDrop::new(unsafe { Box::from_raw(span) });
        ManuallyDrop::into_inner(span).end();
    });
}

inert! {
    /// The name of a span is OpenTelemetry's, and not the operation of a route's decorator.
    envoy_dynamic_module_on_tracer_span_set_operation;
    /// Verbose annotations.
    envoy_dynamic_module_on_tracer_span_log;
    /// The decision is this module's: see `use_local_decision`.
    envoy_dynamic_module_on_tracer_span_set_sampled;
    /// Envoy asks for no baggage of its own accord.
    envoy_dynamic_module_on_tracer_span_get_baggage -> bool = false;
    envoy_dynamic_module_on_tracer_span_set_baggage;
    /// After 1.40: room for so many tags.
    envoy_dynamic_module_on_tracer_span_reserve_tags;
}
