//! The part of Envoy that the module calls, without an Envoy. Each function does as little as it
//! can, so that what is counted is the module's own.

use core::cell::Cell;
use core::ffi::c_void;

/// A range of bytes, as Envoy's ABI passes it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Buffer {
    pub(crate) start: *const u8,
    pub(crate) length: usize,
}

impl Buffer {
    pub(crate) const EMPTY: Self = Self {
        start: core::ptr::null(),
        length: 0,
    };

    pub(crate) const fn of(bytes: &[u8]) -> Self {
        Self {
            start: bytes.as_ptr(),
            length: bytes.len(),
        }
    }

    /// # Safety
    /// The range is alive.
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.start.is_null() {
            return &[];
        }
        // SAFETY: as the caller guarantees.
        unsafe { core::slice::from_raw_parts(self.start, self.length) }
    }
}

/// The headers of a request. What the module writes is counted, and not kept: then each request is
/// the same.
pub(crate) struct Carrier {
    pub(crate) headers: &'static [(&'static str, &'static str)],
}

impl Carrier {
    fn get(&self, name: &[u8]) -> Option<&'static str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(known, _)| known.as_bytes() == name)?;
        Some(value)
    }
}

/// How often the module has called Envoy on this thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) get: u64,
    pub(crate) set: u64,
    pub(crate) remove: u64,
    pub(crate) count: u64,
}

std::thread_local! {
    static CALLS: Cell<Calls> = Cell::new(Calls::default());
    /// The calls of the export that were made.
    static EXPORTS: Cell<u64> = const { Cell::new(0) };
    static BLOCKS: Cell<u64> = const { Cell::new(0) };
}

fn called(change: impl FnOnce(&mut Calls)) {
    let mut calls = CALLS.get();
    change(&mut calls);
    CALLS.set(calls);
}

/// The calls since the last time.
pub(crate) fn take_calls() -> Calls {
    CALLS.take()
}

/// The calls of the export that this thread has made. They are numbered from 1.
pub(crate) fn exports() -> u64 {
    EXPORTS.get()
}

/// The blocks of memory that this thread has asked for since the last time.
pub(crate) fn take_blocks() -> u64 {
    BLOCKS.take()
}

/// `malloc` and its kin, of this program and of the module: the program's come first, where the
/// module's are looked up.
mod memory {
    use super::{BLOCKS, c_void};

    unsafe extern "C" {
        fn __libc_malloc(size: usize) -> *mut c_void;
        fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
        fn __libc_realloc(old: *mut c_void, size: usize) -> *mut c_void;
        fn __libc_memalign(alignment: usize, size: usize) -> *mut c_void;
    }

    fn counted() {
        BLOCKS.set(BLOCKS.get() + 1);
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
        counted();
        // SAFETY: the same function.
        unsafe { __libc_malloc(size) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
        counted();
        // SAFETY: the same function.
        unsafe { __libc_calloc(count, size) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn realloc(old: *mut c_void, size: usize) -> *mut c_void {
        counted();
        // SAFETY: the same function.
        unsafe { __libc_realloc(old, size) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn posix_memalign(
        out: *mut *mut c_void,
        alignment: usize,
        size: usize,
    ) -> i32 {
        const NO_MEMORY: i32 = 12;

        counted();
        // SAFETY: the caller's arguments; `out` is written as the function promises.
        unsafe {
            let memory = __libc_memalign(alignment, size);
            if memory.is_null() {
                return NO_MEMORY;
            }
            *out = memory;
        }
        0
    }
}

macro_rules! host {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($argument: $type),*) $(-> $result)? $body
        )*

        /// Keeps the linker from leaving the functions out: nothing in this program calls them.
        #[used]
        static FUNCTIONS: [Function; [$(stringify!($name)),*].len()] =
            [$(Function($name as *const ())),*];
    };
}

struct Function(#[expect(dead_code, reason = "it is kept, not called")] *const ());

// SAFETY: the address of a function is never written.
unsafe impl Sync for Function {}

host! {
    envoy_dynamic_module_callback_log(_level: u32, line: Buffer) {
        // SAFETY: the module lends the range.
        eprintln!("{}", String::from_utf8_lossy(unsafe { line.bytes() }));
    }
    // The module then starts no thread, and nothing but this program wakes it.
    envoy_dynamic_module_callback_is_validation_mode() -> bool { true }
    envoy_dynamic_module_callback_tracer_get_trace_context_value(
        carrier: *const Carrier, name: Buffer, out: *mut Buffer
    ) -> bool {
        called(|calls| calls.get += 1);
        // SAFETY: the carrier of this program, and the module's ranges.
        unsafe { answer((*carrier).get(name.bytes()), out) }
    }
    envoy_dynamic_module_callback_tracer_get_trace_context_host(
        carrier: *const Carrier, out: *mut Buffer
    ) -> bool {
        called(|calls| calls.get += 1);
        // SAFETY: the carrier of this program, and the module's range.
        unsafe { answer((*carrier).get(b":authority"), out) }
    }
    envoy_dynamic_module_callback_tracer_get_trace_context_path(
        carrier: *const Carrier, out: *mut Buffer
    ) -> bool {
        called(|calls| calls.get += 1);
        // SAFETY: the carrier of this program, and the module's range.
        unsafe { answer((*carrier).get(b":path"), out) }
    }
    envoy_dynamic_module_callback_tracer_get_trace_context_method(
        carrier: *const Carrier, out: *mut Buffer
    ) -> bool {
        called(|calls| calls.get += 1);
        // SAFETY: the carrier of this program, and the module's range.
        unsafe { answer((*carrier).get(b":method"), out) }
    }
    envoy_dynamic_module_callback_tracer_set_trace_context_value(
        _carrier: *const Carrier, _name: Buffer, _value: Buffer
    ) {
        called(|calls| calls.set += 1);
    }
    envoy_dynamic_module_callback_tracer_remove_trace_context_value(
        _carrier: *const Carrier, _name: Buffer
    ) {
        called(|calls| calls.remove += 1);
    }
    envoy_dynamic_module_callback_tracer_define_counter(
        _config: *const c_void, _name: Buffer, _labels: *const Buffer, _count: usize,
        id: *mut usize
    ) -> u32 {
        // SAFETY: the module's number.
        unsafe { *id = 1 };
        0
    }
    envoy_dynamic_module_callback_tracer_increment_counter(
        _config: *const c_void, _id: usize, _labels: *const Buffer, _count: usize, _by: u64
    ) -> u32 {
        called(|calls| calls.count += 1);
        0
    }
    envoy_dynamic_module_callback_http_filter_config_scheduler_new(
        config: *const c_void
    ) -> *const c_void { config }
    envoy_dynamic_module_callback_http_filter_config_scheduler_delete(_scheduler: *const c_void) {}
    envoy_dynamic_module_callback_http_filter_config_scheduler_commit(
        _scheduler: *const c_void, _event: u64
    ) {}
    envoy_dynamic_module_callback_http_filter_config_http_callout(
        _config: *const c_void, id: *mut u64, _cluster: Buffer, _headers: *const c_void,
        _count: usize, _body: Buffer, _timeout: u64
    ) -> u32 {
        EXPORTS.set(EXPORTS.get() + 1);
        // SAFETY: the module's number.
        unsafe { *id = exports() };
        0
    }
    envoy_dynamic_module_callback_http_filter_config_start_http_stream(
        _config: *const c_void, _id: *mut u64, _cluster: Buffer, _headers: *const c_void,
        _count: usize, _body: Buffer, _is_end: bool, _timeout: u64
    ) -> u32 { 4 }
    envoy_dynamic_module_callback_http_filter_config_stream_send_data(
        _config: *const c_void, _id: u64, _body: Buffer, _is_end: bool
    ) -> bool { false }
    envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_new(
        config: *const c_void
    ) -> *const c_void { config }
    envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_delete(
        _scheduler: *const c_void
    ) {}
    envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_commit(
        _scheduler: *const c_void, _event: u64
    ) {}
    envoy_dynamic_module_callback_bootstrap_extension_http_callout(
        _config: *const c_void, _id: *mut u64, _cluster: Buffer, _headers: *const c_void,
        _count: usize, _body: Buffer, _timeout: u64
    ) -> u32 { 4 }
    envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete(
        _config: *const c_void
    ) {}
}

/// # Safety
/// `out` is the module's.
unsafe fn answer(value: Option<&'static str>, out: *mut Buffer) -> bool {
    let buffer = value.map_or(Buffer::EMPTY, |value| Buffer::of(value.as_bytes()));
    // SAFETY: as the caller guarantees.
    unsafe { *out = buffer };
    value.is_some()
}
