//! The functions that Envoy calls, under the names by which it looks them up.
//!
//! Envoy refuses a module in which one of them is missing, so those without an effect are here too.
//! They take fewer arguments than Envoy passes, which the C calling conventions of x86-64 and
//! AArch64 allow.

mod bootstrap;
mod early;
mod filter;
mod tracer;

use core::ffi::c_char;

use crate::boundary::guard;
use crate::sys;

/// Defines hooks that have no effect.
macro_rules! inert {
    ($($(#[$doc:meta])* $name:ident $(-> $result:ty = $value:expr)?;)*) => {
        $(
            $(#[$doc])*
            #[unsafe(no_mangle)]
            extern "C" fn $name() $(-> $result)? {
                $($value)?
            }
        )*
    };
}
use inert;

/// The module is loaded. Returns the ABI for which it is written, or null where it cannot run.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_program_init() -> *const c_char {
    guard(core::ptr::null(), || match sys::imports() {
        Ok(_) => sys::ABI_VERSION.as_ptr(),
        Err(missing) => {
            sys::log_without_imports(&format!(
                "libmeshtrace.so needs Envoy 1.38 or later: this one lacks the function {}",
                missing.to_string_lossy()
            ));
            core::ptr::null()
        }
    })
}
