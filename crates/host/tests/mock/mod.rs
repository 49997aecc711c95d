//! A host in memory: the functions that a module imports, with any status in answer.
//!
//! Its state, like the SDK's dispatcher, is one a thread, and so one a test.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each call is the ABI as specified"
)]
#![allow(unsafe_code, reason = "it stands on the other side of the ABI")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::{ptr, slice};

use meshtrace_headers::encode;

/// What the host knows and was told.
#[derive(Debug, Default)]
pub(crate) struct Host {
    pub(crate) request_headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The header block to hand over instead of the headers' own.
    pub(crate) raw_block: Option<Vec<u8>>,
    pub(crate) configuration: Vec<u8>,
    pub(crate) properties: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) shared_data: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Moves with every write, as the version of every entry.
    pub(crate) version: u32,
    /// So many writes are won by another worker, which writes this first.
    pub(crate) races: Vec<Vec<u8>>,
    /// Nanoseconds since the Unix epoch.
    pub(crate) now: u64,
    pub(crate) metrics: Vec<(String, i64)>,
    pub(crate) log: Vec<String>,
    /// Statuses to answer instead of doing anything, by function.
    pub(crate) statuses: BTreeMap<&'static str, u32>,
    /// Functions that answer OK and hand over a null pointer with this size.
    pub(crate) null_with_size: BTreeMap<&'static str, usize>,
    /// The functions that were called, in order.
    pub(crate) calls: Vec<&'static str>,
}

impl Host {
    pub(crate) fn metric(&self, name: &str) -> Option<i64> {
        let mut metrics = self.metrics.iter();
        metrics.find(|(n, _)| n == name).map(|(_, value)| *value)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        let mut headers = self.request_headers.iter();
        let found = headers.find(|(n, _)| n == name.as_bytes());
        found.map(|(_, value)| value.as_slice())
    }
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

/// Looks at this thread's host, or changes it.
#[expect(clippy::disallowed_methods, reason = "a test may panic")]
pub(crate) fn host<T>(with: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with(|host| with(&mut host.borrow_mut()))
}

/// Runs `answer` unless a status was ordered for `function`.
fn call(function: &'static str, answer: impl FnOnce(&mut Host) -> u32) -> u32 {
    host(|host| {
        host.calls.push(function);
        match host.statuses.get(function) {
            Some(status) => *status,
            None => answer(host),
        }
    })
}

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const CAS_MISMATCH: u32 = 8;

unsafe extern "C" {
    fn proxy_on_memory_allocate(size: usize) -> *mut u8;
}

/// SAFETY: `start` and `size` come from a module that lends them for the call.
unsafe fn lent<'a>(start: *const u8, size: usize) -> &'a [u8] {
    if size == 0 {
        return &[];
    }
    unsafe { slice::from_raw_parts(start, size) }
}

/// Hands `bytes` over in memory that the module allocates, as a real host does.
///
/// SAFETY: the module gives two places to write to.
unsafe fn hand_over(
    function: &'static str,
    bytes: &[u8],
    start: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    if let Some(null_size) = host(|host| host.null_with_size.get(function).copied()) {
        unsafe {
            start.write(ptr::null_mut());
            size.write(null_size);
        }
        return OK;
    }
    unsafe {
        let memory = proxy_on_memory_allocate(bytes.len());
        ptr::copy_nonoverlapping(bytes.as_ptr(), memory, bytes.len());
        start.write(memory);
        size.write(bytes.len());
    }
    OK
}

/// Like [`call`], for functions that return bytes; `None` is not found.
///
/// SAFETY: as [`hand_over`] demands.
unsafe fn call_for_bytes(
    function: &'static str,
    start: *mut *mut u8,
    size: *mut usize,
    find: impl FnOnce(&mut Host) -> Option<Vec<u8>>,
) -> u32 {
    let mut found = None;
    let status = call(function, |host| {
        found = find(host);
        if found.is_some() { OK } else { NOT_FOUND }
    });
    match found {
        Some(bytes) => unsafe { hand_over(function, &bytes, start, size) },
        None => status,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_log(_level: u32, text: *const u8, size: usize) -> u32 {
    let text = String::from_utf8_lossy(unsafe { lent(text, size) }).into_owned();
    call("proxy_log", |host| {
        host.log.push(text);
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_header_map_pairs(
    _map: u32,
    start: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    let function = "proxy_get_header_map_pairs";
    unsafe {
        call_for_bytes(function, start, size, |host| {
            let raw = host.raw_block.clone();
            Some(raw.unwrap_or_else(|| encode(&host.request_headers)))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_replace_header_map_value(
    _map: u32,
    name: *const u8,
    name_size: usize,
    value: *const u8,
    value_size: usize,
) -> u32 {
    let (name, value) = unsafe { (lent(name, name_size), lent(value, value_size)) };
    call("proxy_replace_header_map_value", |host| {
        host.request_headers.retain(|(n, _)| n != name);
        host.request_headers.push((name.to_vec(), value.to_vec()));
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_remove_header_map_value(
    _map: u32,
    name: *const u8,
    name_size: usize,
) -> u32 {
    let name = unsafe { lent(name, name_size) };
    call("proxy_remove_header_map_value", |host| {
        host.request_headers.retain(|(n, _)| n != name);
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_property(
    path: *const u8,
    path_size: usize,
    start: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    let path = unsafe { lent(path, path_size) };
    unsafe {
        call_for_bytes("proxy_get_property", start, size, |host| {
            host.properties.get(path).cloned()
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_property(
    path: *const u8,
    path_size: usize,
    value: *const u8,
    value_size: usize,
) -> u32 {
    let (path, value) = unsafe { (lent(path, path_size), lent(value, value_size)) };
    call("proxy_set_property", |host| {
        host.properties.insert(path.to_vec(), value.to_vec());
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_buffer_bytes(
    _buffer: u32,
    _start: usize,
    _max_size: usize,
    start: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    unsafe {
        call_for_bytes("proxy_get_buffer_bytes", start, size, |host| {
            Some(host.configuration.clone())
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_shared_data(
    key: *const u8,
    key_size: usize,
    start: *mut *mut u8,
    size: *mut usize,
    cas: *mut u32,
) -> u32 {
    let key = unsafe { lent(key, key_size) };
    unsafe {
        cas.write(host(|host| host.version + 1));
        call_for_bytes("proxy_get_shared_data", start, size, |host| {
            host.shared_data.get(key).cloned()
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_shared_data(
    key: *const u8,
    key_size: usize,
    value: *const u8,
    value_size: usize,
    cas: u32,
) -> u32 {
    let (key, value) = unsafe { (lent(key, key_size), lent(value, value_size)) };
    call("proxy_set_shared_data", |host| {
        if let Some(other) = host.races.pop() {
            host.version += 1;
            host.shared_data.insert(key.to_vec(), other);
        }
        let is_stale = cas != 0 && cas != host.version + 1;
        if is_stale && host.shared_data.contains_key(key) {
            return CAS_MISMATCH;
        }
        host.version += 1;
        host.shared_data.insert(key.to_vec(), value.to_vec());
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_current_time_nanoseconds(nanoseconds: *mut u64) -> u32 {
    call("proxy_get_current_time_nanoseconds", |host| {
        unsafe { nanoseconds.write(host.now) };
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_define_metric(
    _kind: u32,
    name: *const u8,
    name_size: usize,
    metric: *mut u32,
) -> u32 {
    let name = String::from_utf8_lossy(unsafe { lent(name, name_size) }).into_owned();
    call("proxy_define_metric", |host| {
        let known = host.metrics.iter().position(|(n, _)| *n == name);
        let index = known.unwrap_or_else(|| {
            host.metrics.push((name, 0));
            host.metrics.len() - 1
        });
        unsafe { metric.write(u32::try_from(index).unwrap_or(u32::MAX)) };
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_increment_metric(metric: u32, offset: i64) -> u32 {
    change_metric("proxy_increment_metric", metric, |value| *value += offset)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_record_metric(metric: u32, new: u64) -> u32 {
    let new = i64::try_from(new).unwrap_or(i64::MAX);
    change_metric("proxy_record_metric", metric, |value| *value = new)
}

fn change_metric(function: &'static str, metric: u32, change: impl FnOnce(&mut i64)) -> u32 {
    call(function, |host| {
        let index = usize::try_from(metric).unwrap_or(usize::MAX);
        match host.metrics.get_mut(index) {
            Some((_, value)) => {
                change(value);
                OK
            }
            None => NOT_FOUND,
        }
    })
}

/// What only the SDK's own functions import: the host crate must never get there.
macro_rules! never_called {
    ($($function:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $function() -> u32 {
                eprintln!("{} was called", stringify!($function));
                std::process::abort();
            }
        )*
    };
}

never_called! {
    proxy_add_header_map_value
    proxy_call_foreign_function
    proxy_close_stream
    proxy_continue_stream
    proxy_dequeue_shared_queue
    proxy_done
    proxy_enqueue_shared_queue
    proxy_get_header_map_value
    proxy_get_log_level
    proxy_get_metric
    proxy_get_status
    proxy_grpc_call
    proxy_grpc_cancel
    proxy_grpc_close
    proxy_grpc_send
    proxy_grpc_stream
    proxy_http_call
    proxy_register_shared_queue
    proxy_resolve_shared_queue
    proxy_send_local_response
    proxy_set_buffer_bytes
    proxy_set_effective_context
    proxy_set_header_map_pairs
    proxy_set_tick_period_milliseconds
}
