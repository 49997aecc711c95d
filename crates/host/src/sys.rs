//! The host's functions (proxy-wasm ABI 0.2.1). Each returns a status, which can be any number.
//!
//! The SDK declares them as returning an enum, in which an unknown status is undefined behaviour.

#[cfg_attr(target_arch = "wasm32", link(wasm_import_module = "env"))]
unsafe extern "C" {
    pub(crate) fn proxy_log(level: u32, text: *const u8, text_size: usize) -> u32;

    pub(crate) fn proxy_get_header_map_pairs(
        map: u32,
        block: *mut *mut u8,
        block_size: *mut usize,
    ) -> u32;
    pub(crate) fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    pub(crate) fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    pub(crate) fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize)
    -> u32;

    pub(crate) fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;
    pub(crate) fn proxy_set_property(
        path: *const u8,
        path_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;

    pub(crate) fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max_size: usize,
        bytes: *mut *mut u8,
        size: *mut usize,
    ) -> u32;

    pub(crate) fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    pub(crate) fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        cas: u32,
    ) -> u32;

    pub(crate) fn proxy_define_metric(
        kind: u32,
        name: *const u8,
        name_size: usize,
        metric: *mut u32,
    ) -> u32;
    pub(crate) fn proxy_increment_metric(metric: u32, offset: i64) -> u32;
    pub(crate) fn proxy_record_metric(metric: u32, value: u64) -> u32;

    pub(crate) fn proxy_get_current_time_nanoseconds(nanoseconds: *mut u64) -> u32;
    pub(crate) fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    pub(crate) fn proxy_done() -> u32;

    pub(crate) fn proxy_http_call(
        cluster: *const u8,
        cluster_size: usize,
        headers: *const u8,
        headers_size: usize,
        body: *const u8,
        body_size: usize,
        trailers: *const u8,
        trailers_size: usize,
        timeout_milliseconds: u32,
        token: *mut u32,
    ) -> u32;

    pub(crate) fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        arguments: *const u8,
        arguments_size: usize,
        results: *mut *mut u8,
        results_size: *mut usize,
    ) -> u32;
}

// The clocks of WASI, preview 1: the ABI has only the wall clock. Each function returns an `errno`.
#[cfg_attr(
    target_arch = "wasm32",
    link(wasm_import_module = "wasi_snapshot_preview1")
)]
unsafe extern "C" {
    pub(crate) fn clock_time_get(clock: u32, precision: u64, nanoseconds: *mut u64) -> u32;
}
