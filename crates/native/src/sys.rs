//! The part of Envoy's dynamic-module ABI that this module uses, in a declaration of this project.
//!
//! Envoy's functions are looked up by name when the module is loaded, and none is linked. Rust
//! links modules so that every import is resolved at load. A function that an Envoy lacks would
//! then refuse the whole module without a log line of this module. The functions of [`Imports`] are
//! in Envoy 1.38 and later.

use core::ffi::{CStr, c_void};
use std::sync::OnceLock;

/// The ABI for which this module is written. Envoy 1.38 and 1.39 have it, and 1.40 (`v0.2.0`)
/// accepts it with one warning.
pub(crate) const ABI_VERSION: &CStr = c"v0.1.0";

/// A range of bytes of Envoy or of this module. It is lent for one call.
#[derive(Clone, Copy, Debug)]
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

    /// Lends `bytes` to Envoy.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            start: bytes.as_ptr(),
            length: bytes.len(),
        }
    }

    /// The bytes that Envoy lends.
    ///
    /// # Safety
    /// Envoy has lent this buffer for at least `'a`.
    pub(crate) unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.start.is_null() || self.length == 0 {
            return &[];
        }
        // SAFETY: Envoy's range is valid for `'a`, as the caller guarantees.
        unsafe { core::slice::from_raw_parts(self.start, self.length) }
    }
}

/// A header line of Envoy or of this module.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct HeaderLine {
    pub(crate) name: Buffer,
    pub(crate) value: Buffer,
}

/// A pointer to an object of Envoy. This module only passes it back.
pub(crate) type EnvoyPtr = *mut c_void;

/// The callback after which Envoy's shutdown goes on.
pub(crate) type Completion = unsafe extern "C" fn(*mut c_void);

/// `envoy_dynamic_module_type_log_level`.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum LogLevel {
    Info = 2,
    Warn = 3,
    Error = 4,
}

/// `…_metrics_result`: the metric was defined or moved.
pub(crate) const METRIC_DONE: u32 = 0;
/// `…_http_callout_init_result`: the call is on its way.
pub(crate) const CALL_MADE: u32 = 0;
/// `…_http_callout_init_result`: Envoy has no such cluster.
pub(crate) const CLUSTER_NOT_FOUND: u32 = 2;
/// `…_http_callout_result`: an answer has come.
pub(crate) const CALL_ANSWERED: u32 = 0;

#[cfg(feature = "drive")]
use crate::drive::envoy::find;

/// The address of Envoy's function of this name; null where there is none.
#[cfg(not(feature = "drive"))]
fn find(name: &CStr) -> *mut c_void {
    // SAFETY: the name ends with a NUL.
    unsafe { dlsym(core::ptr::null_mut(), name.as_ptr()) }
}

#[cfg(not(feature = "drive"))]
#[link(name = "dl")]
unsafe extern "C" {
    /// The function of POSIX. The null handle stands for the program and the libraries that it has
    /// loaded.
    fn dlsym(handle: *mut c_void, symbol: *const core::ffi::c_char) -> *mut c_void;
}

macro_rules! imports {
    ($(#[$of:meta])* $table:ident:
     $($(#[$doc:meta])* $name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        $(#[$of])*
        #[derive(Debug)]
        pub(crate) struct $table {
            $($(#[$doc])* pub(crate) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl $table {
            /// Looks up all functions. The error is the name of the first function that this Envoy
            /// lacks.
            fn look_up() -> Result<Self, &'static CStr> {
                Ok(Self {
                    $($name: {
                        let name = concat!("envoy_dynamic_module_callback_", stringify!($name), "\0");
                        let name = CStr::from_bytes_until_nul(name.as_bytes()).unwrap_or_default();
                        let symbol = find(name);
                        if symbol.is_null() {
                            return Err(name);
                        }
                        // SAFETY: Envoy's function of that name has this signature in every
                        // version that has it.
                        unsafe {
                            core::mem::transmute::<
                                *mut c_void,
                                unsafe extern "C" fn($($argument),*) $(-> $result)?,
                            >(symbol)
                        }
                    },)*
                })
            }
        }
    };
}

imports! {
    /// Envoy's functions, under their names without `envoy_dynamic_module_callback_`.
    Imports:
    /// 1.38. Writes one line into Envoy's log.
    log(u32, Buffer);
    /// 1.38. Whether the process only checks a configuration.
    is_validation_mode() -> bool;
    /// 1.38. The first line of a request header, by its lower-case name.
    tracer_get_trace_context_value(EnvoyPtr, Buffer, *mut Buffer) -> bool;
    /// 1.38. `:authority`, `:path` and `:method`, each where it is not empty.
    tracer_get_trace_context_host(EnvoyPtr, *mut Buffer) -> bool;
    tracer_get_trace_context_path(EnvoyPtr, *mut Buffer) -> bool;
    tracer_get_trace_context_method(EnvoyPtr, *mut Buffer) -> bool;
    /// 1.38. Sets the first line of a request header to the value.
    tracer_set_trace_context_value(EnvoyPtr, Buffer, Buffer);
    /// 1.38. Removes every line of a request header.
    tracer_remove_trace_context_value(EnvoyPtr, Buffer);
    /// 1.38. Defines a counter, or finds the counter of that name. Only while a configuration is
    /// made.
    tracer_define_counter(EnvoyPtr, Buffer, *const Buffer, usize, *mut usize) -> u32;
    /// 1.38. Adds to a counter.
    tracer_increment_counter(EnvoyPtr, usize, *const Buffer, usize, u64) -> u32;
    /// 1.38. Creates a scheduler, which brings work of other threads to the main thread.
    http_filter_config_scheduler_new(EnvoyPtr) -> EnvoyPtr;
    /// 1.38. Deletes a scheduler.
    http_filter_config_scheduler_delete(EnvoyPtr);
    /// 1.38. From any thread: makes the configuration's hook run on the main thread soon.
    http_filter_config_scheduler_commit(EnvoyPtr, u64);
    /// 1.38. Main thread: makes an HTTP call and returns the id of its answer.
    http_filter_config_http_callout(
        EnvoyPtr, *mut u64, Buffer, *const HeaderLine, usize, Buffer, u64
    ) -> u32;
    /// 1.38. Main thread: begins an HTTP call whose body comes in parts.
    http_filter_config_start_http_stream(
        EnvoyPtr, *mut u64, Buffer, *const HeaderLine, usize, Buffer, bool, u64
    ) -> u32;
    /// 1.38. Main thread: sends a part of the body. The flag is set for the last part.
    http_filter_config_stream_send_data(EnvoyPtr, u64, Buffer, bool) -> bool;
    /// 1.38. As those of the filter, of the bootstrap extension.
    bootstrap_extension_config_scheduler_new(EnvoyPtr) -> EnvoyPtr;
    bootstrap_extension_config_scheduler_delete(EnvoyPtr);
    bootstrap_extension_config_scheduler_commit(EnvoyPtr, u64);
    bootstrap_extension_http_callout(
        EnvoyPtr, *mut u64, Buffer, *const HeaderLine, usize, Buffer, u64
    ) -> u32;
    /// 1.38. Main thread: lets Envoy open its listeners.
    bootstrap_extension_config_signal_init_complete(EnvoyPtr);
}

imports! {
    /// As [`Imports`]: the functions for the early header mutation, which Envoy 1.40 has first.
    EarlyImports:
    /// 1.40. A line of a request header, by its place, and the number of lines.
    early_header_mutation_get_header_value(
        EnvoyPtr, Buffer, *mut Buffer, usize, *mut usize
    ) -> bool;
    /// 1.40. Sets a request header to one line.
    early_header_mutation_set_header(EnvoyPtr, Buffer, Buffer) -> bool;
    /// 1.40. Removes every line of a request header.
    early_header_mutation_remove_header(EnvoyPtr, Buffer) -> bool;
}

static IMPORTS: OnceLock<Result<Imports, &'static CStr>> = OnceLock::new();

/// Envoy's functions. The error is the name of a function that this Envoy lacks.
pub(crate) fn imports() -> Result<&'static Imports, &'static CStr> {
    IMPORTS
        .get_or_init(Imports::look_up)
        .as_ref()
        .map_err(|name| *name)
}

/// Envoy's functions for the early header mutation. The error is the name of a function that this
/// Envoy lacks.
pub(crate) fn early_imports() -> Result<&'static EarlyImports, &'static CStr> {
    static EARLY: OnceLock<Result<EarlyImports, &'static CStr>> = OnceLock::new();

    EARLY
        .get_or_init(EarlyImports::look_up)
        .as_ref()
        .map_err(|name| *name)
}

/// Writes a line into Envoy's log, also where other functions of Envoy are missing.
pub(crate) fn log_without_imports(line: &str) {
    let symbol = find(c"envoy_dynamic_module_callback_log");
    if symbol.is_null() {
        return;
    }
    // SAFETY: Envoy's function of that name has this signature since 1.36.
    let log =
        unsafe { core::mem::transmute::<*mut c_void, unsafe extern "C" fn(u32, Buffer)>(symbol) };
    // SAFETY: Envoy reads the range.
    unsafe { log(LogLevel::Error as u32, Buffer::of(line.as_bytes())) };
}
