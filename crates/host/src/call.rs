//! Calls of the host, safe and checked.

use core::ptr;
use core::time::Duration;

use proxy_wasm::types::{BufferType, LogLevel, MapType, MetricType};

use crate::status::Status;
use crate::sys;

/// Logs one line, where the log level of the host allows it.
pub(crate) fn log(level: LogLevel, text: &str) {
    // SAFETY: the host reads `text.len()` bytes from `text`. Nothing is left to do where it fails.
    let _ = unsafe { sys::proxy_log(level as u32, text.as_ptr(), text.len()) };
}

/// Reads the header map, serialised. This is one call, whatever the number of headers.
pub(crate) fn headers(map: MapType) -> Result<Box<[u8]>, Status> {
    // SAFETY: as `bytes` demands.
    bytes(|block, size| unsafe { sys::proxy_get_header_map_pairs(map as u32, block, size) })
}

/// Makes `value` the only line of the header `name`.
pub(crate) fn replace_header(map: MapType, name: &[u8], value: &[u8]) -> Result<(), Status> {
    // SAFETY: the host reads both ranges.
    Status::check(unsafe {
        sys::proxy_replace_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// Adds a line of the header `name` behind those that there are.
pub(crate) fn add_header(map: MapType, name: &[u8], value: &[u8]) -> Result<(), Status> {
    // SAFETY: the host reads both ranges.
    Status::check(unsafe {
        sys::proxy_add_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// Removes all lines of the header `name`.
pub(crate) fn remove_header(map: MapType, name: &[u8]) -> Result<(), Status> {
    // SAFETY: the host reads the range.
    Status::check(unsafe {
        sys::proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len())
    })
}

/// The property at `path`, whose elements are separated by NUL; `None` when the host has none.
pub(crate) fn property(path: &[u8]) -> Result<Option<Box<[u8]>>, Status> {
    // SAFETY: as `bytes` demands; the host reads the path.
    found(bytes(|value, size| unsafe {
        sys::proxy_get_property(path.as_ptr(), path.len(), value, size)
    }))
}

/// Sets filter state: the host puts `wasm.` before `key`.
pub(crate) fn set_property(key: &[u8], value: &[u8]) -> Result<(), Status> {
    // SAFETY: the host reads both ranges.
    Status::check(unsafe {
        sys::proxy_set_property(key.as_ptr(), key.len(), value.as_ptr(), value.len())
    })
}

/// The plugin configuration's bytes; empty when there is none.
pub(crate) fn plugin_configuration() -> Result<Box<[u8]>, Status> {
    buffer(BufferType::PluginConfiguration, usize::MAX >> 1)
}

/// At most `limit` bytes of a buffer, from its start; empty when there is none.
pub(crate) fn buffer(buffer: BufferType, limit: usize) -> Result<Box<[u8]>, Status> {
    // SAFETY: as `bytes` demands.
    let bytes = bytes(|bytes, size| unsafe {
        sys::proxy_get_buffer_bytes(buffer as u32, 0, limit, bytes, size)
    });
    found(bytes).map(Option::unwrap_or_default)
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn now() -> Result<u64, Status> {
    let mut now = 0;
    // SAFETY: the host writes one `u64`.
    Status::check(unsafe { sys::proxy_get_current_time_nanoseconds(&raw mut now) })?;
    Ok(now)
}

/// Nanoseconds on a clock that is never set, from any start. All workers share this clock.
pub(crate) fn monotonic() -> Result<u64, Status> {
    /// `clockid_t.monotonic`, and a precision that hosts need not keep (WASI, preview 1).
    const MONOTONIC: u32 = 1;
    const PRECISION: u64 = 1_000_000;

    let mut now = 0;
    // SAFETY: the host writes one `u64`.
    Status::check(unsafe { sys::clock_time_get(MONOTONIC, PRECISION, &raw mut now) })?;
    Ok(now)
}

/// Sets the tick period of the root context; 0 stops the ticks.
pub(crate) fn set_tick_period(milliseconds: u32) -> Result<(), Status> {
    // SAFETY: a plain number.
    Status::check(unsafe { sys::proxy_set_tick_period_milliseconds(milliseconds) })
}

/// Lets the host end the context whose end was delayed.
pub(crate) fn done() -> Result<(), Status> {
    // SAFETY: no arguments.
    Status::check(unsafe { sys::proxy_done() })
}

/// Makes an HTTP call and returns the token of its answer. `headers` are a serialised map.
pub(crate) fn http_call(
    cluster: &str,
    headers: &[u8],
    body: &[u8],
    timeout: Duration,
) -> Result<u32, Status> {
    /// A serialised map without entries.
    const NO_TRAILERS: [u8; 4] = 0_u32.to_le_bytes();

    let timeout = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    let mut token = 0;
    // SAFETY: the host reads the four ranges and writes one `u32`.
    Status::check(unsafe {
        sys::proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            NO_TRAILERS.as_ptr(),
            NO_TRAILERS.len(),
            timeout,
            &raw mut token,
        )
    })?;
    Ok(token)
}

/// Calls a function that this host has in addition to those of the ABI.
pub(crate) fn foreign(name: &str, arguments: &[u8]) -> Result<Box<[u8]>, Status> {
    // SAFETY: as `bytes` demands; the host reads both ranges.
    bytes(|results, size| unsafe {
        sys::proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            arguments.as_ptr(),
            arguments.len(),
            results,
            size,
        )
    })
}

/// The version of an entry of the shared data. A write with a version fails where the entry has
/// another version by then.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Version(u32);

impl Version {
    /// A write with this version succeeds, whatever version the entry has.
    pub(crate) const ANY: Self = Self(0);
    /// The version of an entry that does not exist. A write with it fails where the entry exists.
    /// Versions are counted from 1.
    pub(crate) const ABSENT: Self = Self(u32::MAX);
}

/// A value of the shared data, and the version that it has.
pub(crate) type SharedValue = (Box<[u8]>, Version);

/// Reads the entry `key` of the shared data. There is one store for all workers, by `vm_id`.
pub(crate) fn shared_data(key: &[u8]) -> Result<Option<SharedValue>, Status> {
    let mut version = 0;
    // SAFETY: as `bytes` demands; the host reads the key and writes one `u32`.
    let value = found(bytes(|value, size| unsafe {
        sys::proxy_get_shared_data(key.as_ptr(), key.len(), value, size, &raw mut version)
    }))?;
    Ok(value.map(|value| (value, Version(version))))
}

/// Writes the entry `key` of the shared data, where it still has this `version`.
pub(crate) fn set_shared_data(key: &[u8], value: &[u8], version: Version) -> Result<(), Status> {
    // SAFETY: the host reads both ranges.
    Status::check(unsafe {
        sys::proxy_set_shared_data(
            key.as_ptr(),
            key.len(),
            value.as_ptr(),
            value.len(),
            version.0,
        )
    })
}

/// Changes an entry of the shared data. Other VMs may change it at the same time, so `change` is called
/// until the write succeeds. Returns whether it was written: `change` returns `None` for an entry that
/// is to stay as it is. An absent entry is empty.
pub(crate) fn update_shared_data(
    key: &[u8],
    change: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>,
) -> Result<bool, Status> {
    const ATTEMPTS: usize = 1000;

    for _ in 0..ATTEMPTS {
        let (value, version) = shared_data(key)?.unwrap_or((Box::default(), Version::ABSENT));
        let Some(new) = change(&value) else {
            return Ok(false);
        };
        match set_shared_data(key, &new, version) {
            Ok(()) => return Ok(true),
            Err(Status::CAS_MISMATCH) => {}
            Err(status) => return Err(status),
        }
    }
    Err(Status::CAS_MISMATCH)
}

/// Defines a metric, or finds the one of that name.
pub(crate) fn define_metric(kind: MetricType, name: &str) -> Result<u32, Status> {
    let mut metric = 0;
    // SAFETY: the host reads the name and writes one `u32`.
    Status::check(unsafe {
        sys::proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut metric)
    })?;
    Ok(metric)
}

/// Adds to a counter.
pub(crate) fn increment_metric(metric: u32, amount: i64) -> Result<(), Status> {
    // SAFETY: plain numbers.
    Status::check(unsafe { sys::proxy_increment_metric(metric, amount) })
}

/// Sets a gauge.
pub(crate) fn record_metric(metric: u32, value: u64) -> Result<(), Status> {
    // SAFETY: plain numbers.
    Status::check(unsafe { sys::proxy_record_metric(metric, value) })
}

/// Makes a `call` that returns bytes, and takes ownership of the bytes. `call` gets the places
/// where the host writes their address and size, and passes both on to the host unchanged.
fn bytes(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Box<[u8]>, Status> {
    let mut start: *mut u8 = ptr::null_mut();
    let mut size = 0;
    Status::check(call(&raw mut start, &raw mut size))?;
    if start.is_null() {
        return match size {
            0 => Ok(Box::default()),
            _ => Err(Status::NO_BYTES),
        };
    }
    // SAFETY: the host allocated `size` bytes by the module's own allocation export, which leaks a
    // boxed slice of exactly that size, and gave their ownership with the call.
    Ok(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(start, size)) })
}

fn found(result: Result<Box<[u8]>, Status>) -> Result<Option<Box<[u8]>>, Status> {
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Status::NOT_FOUND) => Ok(None),
        Err(status) => Err(status),
    }
}
