//! A host in memory: the functions that a module imports, with any status in answer.
//!
//! Its state, like the SDK's dispatcher, is one a thread, and so one a test.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each call is the ABI as specified"
)]
#![allow(unsafe_code, reason = "it stands on the other side of the ABI")]

#[allow(dead_code, reason = "each test file uses its part")]
pub(crate) mod drive;
mod never_called;

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
    /// Nanoseconds of the clock that is never set.
    pub(crate) monotonic: u64,
    /// The trailers of the response.
    pub(crate) trailers: Lines,
    pub(crate) metrics: Vec<(String, i64)>,
    pub(crate) log: Vec<String>,
    /// Statuses to answer instead of doing anything, by function.
    pub(crate) statuses: BTreeMap<&'static str, u32>,
    /// Functions that answer OK and hand over a null pointer with this size.
    pub(crate) null_with_size: BTreeMap<&'static str, usize>,
    /// How often the root context is to be woken, in milliseconds.
    pub(crate) tick: u32,
    /// How often the host was told that a context is done.
    pub(crate) done: u32,
    /// The calls that were made; the place is the token.
    pub(crate) http_calls: Vec<HttpCall>,
    /// The answer that is being handed over: headers, body, trailers.
    pub(crate) answer: (Lines, Vec<u8>, Lines),
    /// The values of expressions; those that are missing have none.
    pub(crate) expressions: BTreeMap<String, Vec<u8>>,
    /// Expressions that were compiled; the place is the token.
    pub(crate) compiled: Vec<String>,
    /// The functions that were called, in order.
    pub(crate) calls: Vec<&'static str>,
}

pub(crate) type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// The call of `proxy_get_property` for the address of the upstream, by which a filter looks at a few
/// requests to see where it stands.
pub(crate) const LOOK: &str = "proxy_get_property upstream.address";

/// A call as the module made it.
#[allow(dead_code, reason = "each test file uses its part")]
#[derive(Clone, Debug)]
pub(crate) struct HttpCall {
    pub(crate) cluster: String,
    pub(crate) body: Vec<u8>,
    pub(crate) timeout_ms: u32,
}

impl Host {
    /// The next request is another one: what a root context remembers of one ends with it.
    #[allow(dead_code, reason = "each test file uses its part")]
    pub(crate) fn forget_requests(&mut self) {
        let is_kept = |path: &Vec<u8>| !path.starts_with(b"meshtrace_context_");
        self.properties.retain(|path, _| is_kept(path));
    }

    #[allow(dead_code, reason = "each test file uses its part")]
    pub(crate) fn metric(&self, name: &str) -> Option<i64> {
        let mut metrics = self.metrics.iter();
        metrics.find(|(n, _)| n == name).map(|(_, value)| *value)
    }

    #[allow(dead_code, reason = "each test file uses its part")]
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
#[expect(clippy::disallowed_methods, reason = "a test may panic")]
fn call(function: &'static str, answer: impl FnOnce(&mut Host) -> u32) -> u32 {
    const GONE: u32 = 10;
    let answered = HOST.try_with(|host| {
        let host = &mut host.borrow_mut();
        host.calls.push(function);
        let ordered = match function {
            LOOK => "proxy_get_property",
            _ => function,
        };
        match host.statuses.get(ordered) {
            Some(status) => *status,
            None => answer(host),
        }
    });
    // A module that ends with its thread may end after the host.
    answered.unwrap_or(GONE)
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
    map: u32,
    start: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    const RESPONSE_TRAILERS: u32 = 3;
    const ANSWER_HEADERS: u32 = 6;
    const ANSWER_TRAILERS: u32 = 7;
    let function = "proxy_get_header_map_pairs";
    unsafe {
        call_for_bytes(function, start, size, |host| {
            match map {
                ANSWER_HEADERS => return Some(encode(&host.answer.0)),
                ANSWER_TRAILERS => return Some(encode(&host.answer.2)),
                RESPONSE_TRAILERS => return Some(encode(&host.trailers)),
                _ => {}
            }
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
unsafe extern "C" fn proxy_add_header_map_value(
    _map: u32,
    name: *const u8,
    name_size: usize,
    value: *const u8,
    value_size: usize,
) -> u32 {
    let (name, value) = unsafe { (lent(name, name_size), lent(value, value_size)) };
    call("proxy_add_header_map_value", |host| {
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
    let function = match path {
        b"upstream\0address" => LOOK,
        _ => "proxy_get_property",
    };
    unsafe {
        call_for_bytes(function, start, size, |host| {
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
    buffer: u32,
    _start: usize,
    _max_size: usize,
    start: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    unsafe {
        call_for_bytes("proxy_get_buffer_bytes", start, size, |host| {
            const ANSWER_BODY: u32 = 4;
            Some(match buffer {
                ANSWER_BODY => host.answer.1.clone(),
                _ => host.configuration.clone(),
            })
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
unsafe extern "C" fn clock_time_get(clock: u32, _precision: u64, nanoseconds: *mut u64) -> u32 {
    const MONOTONIC: u32 = 1;
    const INVALID: u32 = 28;
    call("clock_time_get", |host| match clock {
        MONOTONIC => {
            unsafe { nanoseconds.write(host.monotonic) };
            OK
        }
        _ => INVALID,
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

#[unsafe(no_mangle)]
extern "C" fn proxy_set_tick_period_milliseconds(period: u32) -> u32 {
    call("proxy_set_tick_period_milliseconds", |host| {
        host.tick = period;
        OK
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_done() -> u32 {
    call("proxy_done", |host| {
        host.done += 1;
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_http_call(
    cluster: *const u8,
    cluster_size: usize,
    _headers: *const u8,
    _headers_size: usize,
    body: *const u8,
    body_size: usize,
    _trailers: *const u8,
    _trailers_size: usize,
    timeout_ms: u32,
    token: *mut u32,
) -> u32 {
    let (cluster, body) = unsafe { (lent(cluster, cluster_size), lent(body, body_size)) };
    let made = HttpCall {
        cluster: String::from_utf8_lossy(cluster).into_owned(),
        body: body.to_vec(),
        timeout_ms,
    };
    call("proxy_http_call", |host| {
        host.http_calls.push(made);
        let place = u32::try_from(host.http_calls.len() - 1).unwrap_or(u32::MAX);
        unsafe { token.write(place) };
        OK
    })
}

/// `expr_create`, `expr_evaluate` and `expr_delete`, as Envoy has them.
#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_call_foreign_function(
    name: *const u8,
    name_size: usize,
    arguments: *const u8,
    arguments_size: usize,
    start: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    let (name, arguments) = unsafe { (lent(name, name_size), lent(arguments, arguments_size)) };
    unsafe {
        call_for_bytes("proxy_call_foreign_function", start, size, |host| {
            let token = arguments.first_chunk().copied().map(u32::from_le_bytes);
            let place = token.map(|token| usize::try_from(token).unwrap_or(usize::MAX));
            match name {
                b"expr_create" => {
                    host.compiled
                        .push(String::from_utf8_lossy(arguments).into_owned());
                    let token = u32::try_from(host.compiled.len() - 1).unwrap_or(u32::MAX);
                    Some(token.to_le_bytes().to_vec())
                }
                b"expr_evaluate" => {
                    let text = host.compiled.get(place?)?;
                    host.expressions.get(text).cloned()
                }
                b"expr_delete" => {
                    host.compiled.get_mut(place?)?.clear();
                    Some(Vec::new())
                }
                b"declare_property" => Some(Vec::new()),
                _ => None,
            }
        })
    }
}
