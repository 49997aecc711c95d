//! The hooks of the module, by the names under which Envoy finds them.

use core::ffi::c_char;

use crate::plugin::Plugin;
use crate::send::Sender;
use crate::span::Span;
use crate::sys::{Buffer, EnvoyPtr, HeaderLine};

/// A hook that gives an id of a span.
pub(super) type GetId = unsafe extern "C" fn(*mut Span, *mut Buffer) -> bool;

#[expect(
    improper_ctypes,
    reason = "only pointers of the module's own values pass"
)]
unsafe extern "C" {
    #[link_name = "envoy_dynamic_module_on_program_init"]
    pub(super) safe fn program_init() -> *const c_char;
    #[link_name = "envoy_dynamic_module_on_tracer_config_new"]
    pub(super) fn tracer_config_new(config: EnvoyPtr, name: Buffer, json: Buffer) -> *const Plugin;
    #[link_name = "envoy_dynamic_module_on_tracer_config_destroy"]
    pub(super) fn tracer_config_destroy(plugin: *const Plugin);
    #[link_name = "envoy_dynamic_module_on_tracer_start_span"]
    pub(super) fn start_span(
        plugin: *const Plugin,
        carrier: EnvoyPtr,
        operation: Buffer,
        traced: bool,
        reason: u32,
    ) -> *mut Span;
    #[link_name = "envoy_dynamic_module_on_tracer_span_set_tag"]
    pub(super) fn set_tag(span: *mut Span, key: Buffer, value: Buffer);
    #[link_name = "envoy_dynamic_module_on_tracer_span_set_operation"]
    pub(super) fn set_operation(span: *mut Span, operation: Buffer);
    #[link_name = "envoy_dynamic_module_on_tracer_span_set_sampled"]
    pub(super) fn set_sampled(span: *mut Span, is_sampled: bool);
    #[link_name = "envoy_dynamic_module_on_tracer_span_finish"]
    pub(super) fn finish(span: *mut Span);
    #[link_name = "envoy_dynamic_module_on_tracer_span_inject_context"]
    pub(super) fn inject(span: *mut Span, carrier: EnvoyPtr);
    #[link_name = "envoy_dynamic_module_on_tracer_span_spawn_child"]
    pub(super) fn spawn_child(span: *mut Span, operation: Buffer, start: i64) -> *mut Span;
    #[link_name = "envoy_dynamic_module_on_tracer_span_use_local_decision"]
    pub(super) fn use_local_decision(span: *mut Span) -> bool;
    #[link_name = "envoy_dynamic_module_on_tracer_span_get_trace_id"]
    pub(super) fn get_trace_id(span: *mut Span, out: *mut Buffer) -> bool;
    #[link_name = "envoy_dynamic_module_on_tracer_span_get_span_id"]
    pub(super) fn get_span_id(span: *mut Span, out: *mut Buffer) -> bool;
    #[link_name = "envoy_dynamic_module_on_tracer_span_destroy"]
    pub(super) fn span_destroy(span: *mut Span);
    #[link_name = "envoy_dynamic_module_on_early_header_mutation_mutate"]
    pub(super) fn mutate(own: *const u8, headers: EnvoyPtr) -> bool;
    #[link_name = "envoy_dynamic_module_on_http_filter_config_new"]
    pub(super) fn filter_config_new(config: EnvoyPtr, name: Buffer, json: Buffer) -> *const Sender;
    #[link_name = "envoy_dynamic_module_on_http_filter_config_destroy"]
    pub(super) fn filter_config_destroy(sender: *const Sender);
    #[link_name = "envoy_dynamic_module_on_http_filter_config_scheduled"]
    pub(super) fn scheduled(config: EnvoyPtr, sender: *const Sender, event: u64);
    #[link_name = "envoy_dynamic_module_on_http_filter_config_http_callout_done"]
    pub(super) fn callout_done(
        config: EnvoyPtr,
        sender: *const Sender,
        id: u64,
        result: u32,
        headers: *const HeaderLine,
        count: usize,
        body: *const Buffer,
        parts: usize,
    );
    #[link_name = "envoy_dynamic_module_on_http_filter_config_http_stream_headers"]
    pub(super) fn stream_headers(
        config: EnvoyPtr,
        sender: *const Sender,
        id: u64,
        headers: *const HeaderLine,
        count: usize,
        is_end: bool,
    );
    #[link_name = "envoy_dynamic_module_on_http_filter_config_http_stream_data"]
    pub(super) fn stream_data(
        config: EnvoyPtr,
        sender: *const Sender,
        id: u64,
        body: *const Buffer,
        parts: usize,
        is_end: bool,
    );
    #[link_name = "envoy_dynamic_module_on_http_filter_config_http_stream_trailers"]
    pub(super) fn stream_trailers(
        config: EnvoyPtr,
        sender: *const Sender,
        id: u64,
        trailers: *const HeaderLine,
        count: usize,
    );
    #[link_name = "envoy_dynamic_module_on_http_filter_config_http_stream_complete"]
    pub(super) fn stream_complete(config: EnvoyPtr, sender: *const Sender, id: u64);
    #[link_name = "envoy_dynamic_module_on_http_filter_config_http_stream_reset"]
    pub(super) fn stream_reset(config: EnvoyPtr, sender: *const Sender, id: u64, reason: u32);
}
