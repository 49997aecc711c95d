//! `envoy.tracers.dynamic_modules`: the tracer `mesh_tracing`.

use core::ptr;
use std::sync::Arc;

use meshtrace_plugin_config::native;

use super::inert;
use crate::boundary::guard;
use crate::call::{self, Carrier, TracerHandle};
use crate::plugin::Plugin;
use crate::send;
use crate::span::{self, Span};
use crate::sys::{Buffer, EnvoyPtr, LogLevel};
use crate::worker::{self, Worker};

/// Creates a configuration, on the main thread. Null refuses it.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_tracer_config_new(
    config: EnvoyPtr,
    name: Buffer,
    json: Buffer,
) -> *const Plugin {
    guard(ptr::null(), || {
        // SAFETY: Envoy lends both ranges for this call.
        let (name, json) = unsafe { (name.bytes(), json.bytes()) };
        // SAFETY: the handle is used until `config_destroy`, or by a span, which keeps it alive.
        let handle = unsafe { TracerHandle::new(config) };
        match native::refuse_tracer(name).and_then(|()| Plugin::new(json, handle)) {
            Ok((plugin, words)) => {
                let (version, does) = (env!("CARGO_PKG_VERSION"), words.summary);
                call::log(
                    LogLevel::Info,
                    &format!(
                        "mesh_tracing {version}: the configuration is in force: the tracer {does}"
                    ),
                );
                for caution in words.cautions {
                    call::log(LogLevel::Warn, &caution);
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

/// Ends a configuration, on the thread that released its last span.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_tracer_config_destroy(plugin: *const Plugin) {
    guard((), || {
        // SAFETY: it came from `config_new`, and Envoy does not use it any more.
        let plugin = unsafe { Arc::from_raw(plugin) };
        plugin.metrics.end();
        // The spans that are still queued are sent at once.
        send::wake_any();
    });
}

/// Starts the span of a request. Null means that the request is not traced and passes unchanged.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_tracer_start_span(
    plugin: *const Plugin,
    carrier: EnvoyPtr,
    operation: Buffer,
    // Envoy's own decision is not used: the rules decide, as in the Wasm filter.
    _traced: bool,
    _reason: u32,
) -> *mut Span {
    guard(ptr::null_mut(), || {
        // SAFETY: it came from `config_new`.
        let plugin = unsafe { worker::borrowed(plugin) };
        // SAFETY: Envoy lends both for this call.
        let (carrier, operation) = unsafe { (Carrier::new(carrier), operation.bytes()) };
        let Some(carrier) = carrier else {
            return ptr::null_mut();
        };
        #[cfg(feature = "provoke")]
        crate::provoke::by_header(&carrier, b"start_span");
        let span = worker::of(&plugin).and_then(|worker| span::start(worker, &carrier, operation));
        span.map_or(ptr::null_mut(), Box::into_raw)
    })
}

/// Runs `body` on the span whose pointer Envoy passes.
///
/// # Safety
/// `span` came from `start_span` or `spawn_child`, and no other hook uses it now.
unsafe fn with<R>(span: *mut Span, otherwise: R, body: impl FnOnce(&mut Span) -> R) -> R {
    guard(otherwise, || {
        // SAFETY: as the caller guarantees.
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
    unsafe {
        // Most spans are not reported, and Envoy sets a dozen tags on each.
        #[cfg(not(feature = "provoke"))]
        if !(*span).takes_tags() {
            return;
        }
        with(span, (), |span| {
            let (key, value) = (key.bytes(), value.bytes());
            #[cfg(feature = "provoke")]
            crate::provoke::by_tag(key, value);
            span.tag(key, value);
        });
    }
}

/// Takes the operation of a route's decorator.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_tracer_span_set_operation(
    span: *mut Span,
    operation: Buffer,
) {
    // SAFETY: the span is Envoy's, and the text is lent for this call.
    unsafe { with(span, (), |span| span.set_operation(operation.bytes())) }
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
    unsafe {
        with(span, (), |span| {
            let Some(mut carrier) = Carrier::new(carrier) else {
                return;
            };
            #[cfg(feature = "provoke")]
            crate::provoke::by_header(&carrier, b"inject_context");
            span.inject(&mut carrier);
        });
    }
}

/// Whether a call is sampled, where Envoy's configuration says that. That it is sampled says nothing
/// new: the request's decision holds.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_tracer_span_set_sampled(
    span: *mut Span,
    is_sampled: bool,
) {
    // SAFETY: the span is Envoy's.
    unsafe {
        with(span, (), |span| {
            if !is_sampled {
                span.overrule();
            }
        });
    }
}

/// Starts the span of a call that is made for this span's request. Null means that the call is not
/// traced.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_tracer_span_spawn_child(
    span: *mut Span,
    operation: Buffer,
    start_time: i64,
) -> *mut Span {
    // SAFETY: the span is Envoy's, and the name is lent for this call.
    unsafe {
        with(span, ptr::null_mut(), |span| {
            Box::into_raw(span.child(operation.bytes(), start_time))
        })
    }
}

/// Whether Envoy may change the decision when the route has changed. It may not: the rules have
/// decided, and the next hop may have received the decision.
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
            let text = span.trace_id_text().map(Buffer::of);
            text.map(|text| out.write(text)).is_some()
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
            out.write(Buffer::of(span.span_id_text()));
            true
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_tracer_span_destroy(span: *mut Span) {
    guard((), || {
        // SAFETY: it came from `start_span` or `spawn_child`, and Envoy does not use it any more.
        Worker::take_out(unsafe { Box::from_raw(span) }).end();
    });
}

inert! {
    /// Not used: verbose annotations are not reported.
    envoy_dynamic_module_on_tracer_span_log;
    /// Envoy does not read baggage by itself.
    envoy_dynamic_module_on_tracer_span_get_baggage -> bool = false;
    envoy_dynamic_module_on_tracer_span_set_baggage;
    /// After 1.40: reserves room for this number of tags.
    envoy_dynamic_module_on_tracer_span_reserve_tags;
}
