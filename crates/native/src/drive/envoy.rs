//! The functions of an Envoy that is made up. Each checks what Envoy requires of its caller.

use core::cell::{Cell, RefCell};
use core::ffi::{CStr, c_void};

use crate::sys::{Buffer, EnvoyPtr, HeaderLine};

/// Header lines, as a request has them: lower-case names.
pub(super) type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// A call that the module made.
pub(super) struct Made {
    pub(super) id: u64,
    pub(super) is_stream: bool,
}

/// What the made-up Envoy knows.
#[derive(Default)]
pub(super) struct State {
    pub(super) counters: Cell<usize>,
    pub(super) is_scheduled: Cell<bool>,
    pub(super) has_scheduler: Cell<bool>,
    /// Whether the running hook must make no call: Envoy would crash.
    pub(super) forbids_calls: Cell<bool>,
    /// How the next call begins: Envoy's number.
    pub(super) next_call: Cell<u32>,
    pub(super) calls: RefCell<Vec<Made>>,
    pub(super) last_id: Cell<u64>,
}

std::thread_local! {
    pub(super) static STATE: State = State::default();
}

/// Envoy's function of this name.
pub(crate) fn find(name: &CStr) -> *mut c_void {
    let name = name.to_bytes();
    let name = name
        .strip_prefix(b"envoy_dynamic_module_callback_")
        .unwrap_or(name);
    match name {
        b"log" => log as *mut c_void,
        b"is_validation_mode" => is_validation_mode as *mut c_void,
        b"tracer_get_trace_context_value" => get as *mut c_void,
        b"tracer_get_trace_context_host" => host as *mut c_void,
        b"tracer_get_trace_context_path" => path as *mut c_void,
        b"tracer_get_trace_context_method" => method as *mut c_void,
        b"tracer_set_trace_context_value" => set as *mut c_void,
        b"tracer_remove_trace_context_value" => remove as *mut c_void,
        b"tracer_define_counter" => define_counter as *mut c_void,
        b"tracer_increment_counter" => increment_counter as *mut c_void,
        b"http_filter_config_scheduler_new" => scheduler_new as *mut c_void,
        b"http_filter_config_scheduler_delete" => scheduler_delete as *mut c_void,
        b"http_filter_config_scheduler_commit" => scheduler_commit as *mut c_void,
        b"http_filter_config_http_callout" => callout as *mut c_void,
        b"http_filter_config_start_http_stream" => start_stream as *mut c_void,
        b"http_filter_config_stream_send_data" => send_data as *mut c_void,
        b"bootstrap_extension_config_scheduler_new" => scheduler_new as *mut c_void,
        b"bootstrap_extension_config_scheduler_delete" => scheduler_delete as *mut c_void,
        b"bootstrap_extension_config_scheduler_commit" => scheduler_commit as *mut c_void,
        b"bootstrap_extension_http_callout" => callout as *mut c_void,
        b"bootstrap_extension_config_signal_init_complete" => signal as *mut c_void,
        b"early_header_mutation_get_header_value" => early_get as *mut c_void,
        b"early_header_mutation_set_header" => early_set as *mut c_void,
        b"early_header_mutation_remove_header" => early_remove as *mut c_void,
        _ => core::ptr::null_mut(),
    }
}

unsafe fn lines<'a>(carrier: EnvoyPtr) -> &'a mut Lines {
    // SAFETY: the driver passes its own lines, and lends them to one hook at a time.
    unsafe { &mut *carrier.cast::<Lines>() }
}

extern "C" fn log(_level: u32, line: Buffer) {
    // SAFETY: the module lends the range.
    let line = unsafe { line.bytes() };
    assert!(!line.contains(&b'\n'), "{}", line.escape_ascii());
}

/// As a process that only checks: so no thread is started, and the driver wakes the module.
extern "C" fn is_validation_mode() -> bool {
    true
}

extern "C" fn get(carrier: EnvoyPtr, name: Buffer, out: *mut Buffer) -> bool {
    early_get(carrier, name, out, 0, core::ptr::null_mut())
}

extern "C" fn host(carrier: EnvoyPtr, out: *mut Buffer) -> bool {
    pseudo(carrier, b":authority", out)
}

extern "C" fn path(carrier: EnvoyPtr, out: *mut Buffer) -> bool {
    pseudo(carrier, b":path", out)
}

extern "C" fn method(carrier: EnvoyPtr, out: *mut Buffer) -> bool {
    pseudo(carrier, b":method", out)
}

/// As Envoy: an empty value is none.
fn pseudo(carrier: EnvoyPtr, name: &[u8], out: *mut Buffer) -> bool {
    let is_there = get(carrier, Buffer::of(name), out);
    // SAFETY: where there is a value the place has it, and it is the request's.
    is_there && unsafe { !(*out).bytes().is_empty() }
}

extern "C" fn set(carrier: EnvoyPtr, name: Buffer, value: Buffer) {
    // SAFETY: the ranges and the lines are lent for this call.
    let (lines, name, value) = unsafe { (lines(carrier), name.bytes(), value.bytes()) };
    assert!(!name.is_empty() && !name.iter().any(u8::is_ascii_uppercase));
    let is_control = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
    assert!(!value.iter().any(is_control), "{}", value.escape_ascii());
    match lines.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value.to_vec(),
        None => lines.push((name.to_vec(), value.to_vec())),
    }
}

extern "C" fn remove(carrier: EnvoyPtr, name: Buffer) {
    // SAFETY: the range and the lines are lent for this call.
    let (lines, name) = unsafe { (lines(carrier), name.bytes()) };
    lines.retain(|(known, _)| known != name);
}

extern "C" fn early_get(
    carrier: EnvoyPtr,
    name: Buffer,
    out: *mut Buffer,
    place: usize,
    count: *mut usize,
) -> bool {
    // SAFETY: the range, the lines and both places are lent for this call.
    unsafe {
        let name = name.bytes();
        let lines = lines(carrier);
        let values = || lines.iter().filter(|(known, _)| known == name);
        if !count.is_null() {
            count.write(values().count());
        }
        match values().nth(place) {
            Some((_, value)) => {
                out.write(Buffer::of(value));
                true
            }
            None => false,
        }
    }
}

extern "C" fn early_set(carrier: EnvoyPtr, name: Buffer, value: Buffer) -> bool {
    // SAFETY: as in `set`; what came is written back here, so any bytes may stand in it.
    let (lines, name, value) = unsafe { (lines(carrier), name.bytes(), value.bytes()) };
    lines.push((name.to_vec(), value.to_vec()));
    true
}

extern "C" fn early_remove(carrier: EnvoyPtr, name: Buffer) -> bool {
    remove(carrier, name);
    true
}

extern "C" fn define_counter(
    _config: EnvoyPtr,
    name: Buffer,
    _labels: *const Buffer,
    _count: usize,
    id: *mut usize,
) -> u32 {
    // SAFETY: the range and the place are lent for this call.
    unsafe {
        assert!(name.bytes().starts_with(b"meshtrace."));
        id.write(STATE.with(|state| state.counters.replace(state.counters.get() + 1)));
    }
    0
}

extern "C" fn increment_counter(
    _config: EnvoyPtr,
    id: usize,
    _labels: *const Buffer,
    _count: usize,
    _amount: u64,
) -> u32 {
    assert!(STATE.with(|state| id < state.counters.get()));
    0
}

extern "C" fn scheduler_new(config: EnvoyPtr) -> EnvoyPtr {
    STATE.with(|state| state.has_scheduler.set(true));
    config
}

extern "C" fn scheduler_delete(_scheduler: EnvoyPtr) {
    assert!(STATE.with(|state| state.has_scheduler.replace(false)));
}

extern "C" fn scheduler_commit(_scheduler: EnvoyPtr, _event: u64) {
    STATE.with(|state| {
        assert!(state.has_scheduler.get(), "it is deleted");
        state.is_scheduled.set(true);
    });
}

fn begin(id: *mut u64, is_stream: bool) -> u32 {
    STATE.with(|state| {
        assert!(!state.forbids_calls.get(), "a call that ends Envoy");
        let outcome = state.next_call.get();
        if outcome == 0 {
            let next = state.last_id.get() + 1;
            state.last_id.set(next);
            // SAFETY: the place is lent for this call.
            unsafe { id.write(next) };
            state.calls.borrow_mut().push(Made {
                id: next,
                is_stream,
            });
        }
        outcome
    })
}

extern "C" fn callout(
    _config: EnvoyPtr,
    id: *mut u64,
    _cluster: Buffer,
    headers: *const HeaderLine,
    count: usize,
    body: Buffer,
    _timeout_ms: u64,
) -> u32 {
    // SAFETY: the module lends the headers and the body.
    unsafe {
        assert!(count >= 3 && !(*headers).name.bytes().is_empty());
        assert!(!body.bytes().is_empty());
    }
    begin(id, false)
}

extern "C" fn start_stream(
    _config: EnvoyPtr,
    id: *mut u64,
    _cluster: Buffer,
    _headers: *const HeaderLine,
    count: usize,
    _body: Buffer,
    _is_end: bool,
    _timeout_ms: u64,
) -> u32 {
    assert!(count >= 3);
    begin(id, true)
}

extern "C" fn send_data(_config: EnvoyPtr, id: u64, body: Buffer, is_end: bool) -> bool {
    // SAFETY: the module lends the body.
    let length = unsafe { body.bytes() }.len();
    assert!(is_end && length > 5);
    STATE.with(|state| state.calls.borrow().iter().any(|call| call.id == id))
}

extern "C" fn signal(_config: EnvoyPtr) {}
