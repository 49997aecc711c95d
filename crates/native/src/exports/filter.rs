//! `envoy.filters.http.dynamic_modules`: the filter `mesh_tracing_export`.
//!
//! Its configuration makes the calls of the export. The filter itself does nothing. With `disabled:
//! true` Envoy runs it for no request, but still creates its configuration.

use core::ptr;
use std::sync::Arc;

use meshtrace_plugin_config::native;

use super::inert;
use crate::boundary::guard;
use crate::call::{self, Caller, Extension};
use crate::landed::Landed;
use crate::send::Sender;
use crate::sys::{Buffer, CALL_ANSWERED, EnvoyPtr, HeaderLine, LogLevel};

/// Creates a configuration, on the main thread. Null refuses it.
#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
    config: EnvoyPtr,
    name: Buffer,
    content: Buffer,
) -> *const Sender {
    guard(ptr::null(), || {
        // SAFETY: Envoy lends both ranges for this call.
        let (name, content) = unsafe { (name.bytes(), content.bytes()) };
        if let Err(refusal) = native::refuse_filter(name, content) {
            call::log(
                LogLevel::Error,
                &format!("{refusal} (the filter is refused)"),
            );
            return ptr::null();
        }
        // SAFETY: the configuration lives until `config_destroy`, which ends the sender.
        let sender = Sender::open(unsafe { Caller::new(config, Extension::Filter) });
        sender.map_or(ptr::null(), Arc::into_raw)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(sender: *const Sender) {
    guard((), || {
        // SAFETY: it came from `config_new`, and Envoy does not use it any more.
        let sender = unsafe { Arc::from_raw(sender) };
        sender.close();
    });
}

/// Runs `body` on the configuration whose pointer Envoy passes.
///
/// # Safety
/// `sender` came from `config_new`, and is not destroyed.
pub(super) unsafe fn with(sender: *const Sender, body: impl FnOnce(&Arc<Sender>)) {
    guard((), || {
        // SAFETY: as the caller guarantees; the count is not given back.
        let sender = core::mem::ManuallyDrop::new(unsafe { Arc::from_raw(sender) });
        body(&sender);
    });
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_scheduled(
    _config: EnvoyPtr,
    sender: *const Sender,
    _event: u64,
) {
    // SAFETY: the configuration is Envoy's.
    unsafe { with(sender, Sender::run) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_http_callout_done(
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

/// A call that is no stream is over.
///
/// # Safety
/// As for [`with`] and [`slice`].
pub(super) unsafe fn call_landed(
    sender: *const Sender,
    id: u64,
    result: u32,
    (headers, count): (*const HeaderLine, usize),
    (body, parts): (*const Buffer, usize),
) {
    // SAFETY: as the caller guarantees.
    unsafe {
        with(sender, |sender| {
            let mut answer = Landed::of_call(id);
            if result == CALL_ANSWERED {
                answer.set_headers(block(headers, count));
                for part in slice(body, parts) {
                    answer.append(part.bytes());
                }
            }
            sender.landed(answer);
        });
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_http_stream_headers(
    _config: EnvoyPtr,
    sender: *const Sender,
    id: u64,
    headers: *const HeaderLine,
    count: usize,
    _is_end: bool,
) {
    // SAFETY: the configuration is Envoy's, and the headers are lent for this call.
    unsafe {
        with(sender, |sender| {
            sender.on_stream(id, |answer| answer.set_headers(block(headers, count)));
        });
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_http_stream_data(
    _config: EnvoyPtr,
    sender: *const Sender,
    id: u64,
    body: *const Buffer,
    parts: usize,
    _is_end: bool,
) {
    // SAFETY: the configuration is Envoy's, and the body is lent for this call.
    unsafe {
        with(sender, |sender| {
            sender.on_stream(id, |answer| {
                for part in slice(body, parts) {
                    answer.append(part.bytes());
                }
            });
        });
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_http_stream_trailers(
    _config: EnvoyPtr,
    sender: *const Sender,
    id: u64,
    trailers: *const HeaderLine,
    count: usize,
) {
    // SAFETY: the configuration is Envoy's, and the trailers are lent for this call.
    unsafe {
        with(sender, |sender| {
            sender.on_stream(id, |answer| answer.set_trailers(block(trailers, count)));
        });
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_http_stream_complete(
    _config: EnvoyPtr,
    sender: *const Sender,
    id: u64,
) {
    // SAFETY: the configuration is Envoy's.
    unsafe { with(sender, |sender| sender.stream_landed(id, true)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_http_stream_reset(
    _config: EnvoyPtr,
    sender: *const Sender,
    id: u64,
    _reason: u32,
) {
    // SAFETY: the configuration is Envoy's.
    unsafe { with(sender, |sender| sender.stream_landed(id, false)) }
}

/// # Safety
/// Envoy has lent `count` elements at `start` for at least `'a`.
unsafe fn slice<'a, T>(start: *const T, count: usize) -> &'a [T] {
    if start.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: as the caller guarantees.
    unsafe { core::slice::from_raw_parts(start, count) }
}

/// Converts header lines to a block.
///
/// # Safety
/// As for [`slice`]. The same holds for the bytes to which the lines refer.
unsafe fn block(lines: *const HeaderLine, count: usize) -> Vec<u8> {
    // SAFETY: as the caller guarantees.
    let lines = unsafe { slice(lines, count) };
    // SAFETY: as the caller guarantees.
    let texts = lines
        .iter()
        .map(|line| unsafe { (line.name.bytes(), line.value.bytes()) });
    let texts: Vec<_> = texts.collect();
    meshtrace_headers::encode(&texts)
}

/// Creates a filter that is not disabled. Any address will do, because it is never read.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_new() -> *const u8 {
    static NOTHING: u8 = 0;
    &raw const NOTHING
}

/// The status "Continue" of every hook of a filter.
const CONTINUE: u32 = 0;

inert! {
    envoy_dynamic_module_on_http_filter_request_headers -> u32 = CONTINUE;
    envoy_dynamic_module_on_http_filter_request_body -> u32 = CONTINUE;
    envoy_dynamic_module_on_http_filter_request_trailers -> u32 = CONTINUE;
    envoy_dynamic_module_on_http_filter_response_headers -> u32 = CONTINUE;
    envoy_dynamic_module_on_http_filter_response_body -> u32 = CONTINUE;
    envoy_dynamic_module_on_http_filter_response_trailers -> u32 = CONTINUE;
    envoy_dynamic_module_on_http_filter_stream_complete;
    envoy_dynamic_module_on_http_filter_destroy;
    envoy_dynamic_module_on_http_filter_http_callout_done;
    envoy_dynamic_module_on_http_filter_http_stream_headers;
    envoy_dynamic_module_on_http_filter_http_stream_data;
    envoy_dynamic_module_on_http_filter_http_stream_trailers;
    envoy_dynamic_module_on_http_filter_http_stream_complete;
    envoy_dynamic_module_on_http_filter_http_stream_reset;
    envoy_dynamic_module_on_http_filter_scheduled;
    envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark;
    envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark;
}
