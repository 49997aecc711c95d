//! Safe and checked calls of Envoy's functions.

use meshtrace_headers::Headers;

use crate::sys::{self, Buffer, EarlyImports, EnvoyPtr, HeaderLine, Imports, LogLevel};

fn imports() -> Option<&'static Imports> {
    sys::imports().ok()
}

/// Writes one line into Envoy's log. Envoy's log level may leave it out.
pub(crate) fn log(level: LogLevel, line: &str) {
    if let Some(imports) = imports() {
        // SAFETY: Envoy reads the range.
        unsafe { (imports.log)(level as u32, Buffer::of(line.as_bytes())) };
    }
}

/// Whether the process only checks a configuration (`--mode validate`). It runs on the main thread.
pub(crate) fn is_validation_mode() -> bool {
    // SAFETY: the function has no arguments.
    imports().is_some_and(|imports| unsafe { (imports.is_validation_mode)() })
}

/// The headers of the request of a span. Envoy lends them for one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carrier {
    span: EnvoyPtr,
    imports: &'static Imports,
}

impl Carrier {
    /// `None` where this Envoy lacks functions that the module needs.
    ///
    /// # Safety
    /// `span` is the span that Envoy passes to the running hook, and is not used after the hook.
    pub(crate) unsafe fn new(span: EnvoyPtr) -> Option<Self> {
        let imports = imports()?;
        Some(Self { span, imports })
    }

    /// The first line of the header `name` (lower-case). Envoy gives no other line, and no list of
    /// the names.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let mut value = Buffer::EMPTY;
        // SAFETY: Envoy reads the name and writes one buffer.
        let found = unsafe {
            (self.imports.tracer_get_trace_context_value)(
                self.span,
                Buffer::of(name),
                &raw mut value,
            )
        };
        // SAFETY: the range is in Envoy's header map, which does not change while `self` is
        // borrowed: `set` and `remove` borrow it mutably.
        found.then(|| unsafe { value.bytes() })
    }

    /// `:authority`, for which Envoy searches no list. `None` also where it is empty.
    pub(crate) fn authority(&self) -> Option<&[u8]> {
        self.known(self.imports.tracer_get_trace_context_host)
    }

    /// `:path` with its query, as [`authority`](Self::authority).
    pub(crate) fn target(&self) -> Option<&[u8]> {
        self.known(self.imports.tracer_get_trace_context_path)
    }

    /// `:method`, as [`authority`](Self::authority).
    pub(crate) fn method(&self) -> Option<&[u8]> {
        self.known(self.imports.tracer_get_trace_context_method)
    }

    fn known(&self, get: unsafe extern "C" fn(EnvoyPtr, *mut Buffer) -> bool) -> Option<&[u8]> {
        let mut value = Buffer::EMPTY;
        // SAFETY: Envoy writes one buffer.
        let found = unsafe { get(self.span, &raw mut value) };
        // SAFETY: as in `get`.
        found.then(|| unsafe { value.bytes() })
    }

    /// Makes `value` the first line of the header `name`. Other lines stay.
    pub(crate) fn set(&mut self, name: &[u8], value: &[u8]) {
        let set = self.imports.tracer_set_trace_context_value;
        // SAFETY: Envoy copies both ranges.
        unsafe { set(self.span, Buffer::of(name), Buffer::of(value)) };
    }

    /// Removes all lines of the header `name`.
    pub(crate) fn remove(&mut self, name: &[u8]) {
        let remove = self.imports.tracer_remove_trace_context_value;
        // SAFETY: Envoy reads the range.
        unsafe { remove(self.span, Buffer::of(name)) };
    }
}

/// The headers of a request that no other extension has seen. Envoy lends them for one call.
#[derive(Debug)]
pub(crate) struct EarlyHeaders {
    headers: EnvoyPtr,
    imports: &'static EarlyImports,
}

impl EarlyHeaders {
    /// `None` where this Envoy lacks the functions for it.
    ///
    /// # Safety
    /// Envoy passes `headers` to the running hook, and they are not used after the hook.
    pub(crate) unsafe fn new(headers: EnvoyPtr) -> Option<Self> {
        let imports = sys::early_imports().ok()?;
        Some(Self { headers, imports })
    }

    /// The line of the header `name` (lower-case) at `place`, and the number of its lines.
    pub(crate) fn line(&self, name: &[u8], place: usize) -> Option<(&[u8], usize)> {
        let (mut value, mut count) = (Buffer::EMPTY, 0);
        // SAFETY: Envoy reads the name, and writes one buffer and one number.
        let found = unsafe {
            (self.imports.early_header_mutation_get_header_value)(
                self.headers,
                Buffer::of(name),
                &raw mut value,
                place,
                &raw mut count,
            )
        };
        // SAFETY: the range is in Envoy's header map, which does not change while `self` is
        // borrowed: `set` borrows it mutably.
        found.then(|| (unsafe { value.bytes() }, count))
    }

    /// Makes `value` the only line of the header `name`.
    pub(crate) fn set(&mut self, name: &[u8], value: &[u8]) {
        // SAFETY: Envoy copies the ranges. Neither call fails for a name that is not empty.
        let _ = unsafe {
            (self.imports.early_header_mutation_remove_header)(self.headers, Buffer::of(name))
                && (self.imports.early_header_mutation_set_header)(
                    self.headers,
                    Buffer::of(name),
                    Buffer::of(value),
                )
        };
    }
}

/// A tracer's configuration in Envoy, in which its counters are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TracerHandle(EnvoyPtr);

// SAFETY: Envoy's counters may be moved from any thread. After the configuration is made, the
// pointer is used for nothing else.
unsafe impl Send for TracerHandle {}
// SAFETY: as above.
unsafe impl Sync for TracerHandle {}

impl TracerHandle {
    /// # Safety
    /// `config` is Envoy's tracer configuration, and the handle is not used after its end.
    pub(crate) unsafe fn new(config: EnvoyPtr) -> Self {
        Self(config)
    }

    /// Defines a counter. Envoy accepts no further counter after the configuration is made.
    pub(crate) fn define_counter(self, name: &str) -> Option<usize> {
        let mut id = 0;
        // SAFETY: Envoy reads the name and writes one number.
        let result = unsafe {
            (imports()?.tracer_define_counter)(
                self.0,
                Buffer::of(name.as_bytes()),
                core::ptr::null(),
                0,
                &raw mut id,
            )
        };
        (result == sys::METRIC_DONE).then_some(id)
    }

    pub(crate) fn increment(self, counter: usize, amount: u64) {
        if let Some(imports) = imports() {
            // SAFETY: these are plain numbers, and there are no labels. A counter that Envoy
            // refuses cannot be reported anywhere.
            let _ = unsafe {
                (imports.tracer_increment_counter)(self.0, counter, core::ptr::null(), 0, amount)
            };
        }
    }
}

/// A configuration of an extension in Envoy that can make calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    config: EnvoyPtr,
    of: Extension,
}

/// The extension whose configuration makes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extension {
    /// The HTTP filter. Its configuration ends with its listener.
    Filter,
    /// The bootstrap extension. Its configuration stays until the process ends. Envoy hands the
    /// trailers of an answer to a filter alone.
    Bootstrap,
}

// SAFETY: the pointer is passed to Envoy only on the main thread.
unsafe impl Send for Caller {}
// SAFETY: as above.
unsafe impl Sync for Caller {}

/// Why a call was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotMade {
    ClusterNotFound,
    Other,
}

impl Caller {
    /// # Safety
    /// `config` is Envoy's configuration of that extension, and the caller is not used after its end.
    pub(crate) unsafe fn new(config: EnvoyPtr, of: Extension) -> Self {
        Self { config, of }
    }

    pub(crate) fn is_of_bootstrap(self) -> bool {
        self.of == Extension::Bootstrap
    }

    /// Makes an HTTP call and returns the id of its answer. It may run on the main thread only, and
    /// never in the hooks that deliver an answer: during Envoy's shutdown that is a segmentation
    /// fault.
    pub(crate) fn call(
        self,
        cluster: &str,
        headers: Headers<'_>,
        body: &[u8],
        timeout_ms: u64,
    ) -> Result<u64, NotMade> {
        let imports = imports().ok_or(NotMade::Other)?;
        let lines = lines(headers);
        let mut id = 0;
        let callout = match self.of {
            Extension::Filter => imports.http_filter_config_http_callout,
            Extension::Bootstrap => imports.bootstrap_extension_http_callout,
        };
        // SAFETY: Envoy copies the ranges and writes one number.
        let result = unsafe {
            callout(
                self.config,
                &raw mut id,
                Buffer::of(cluster.as_bytes()),
                lines.as_ptr(),
                lines.len(),
                Buffer::of(body),
                timeout_ms,
            )
        };
        made(result, id)
    }

    /// As [`call`](Self::call), as a stream of the filter: its answer has trailers, which contain the
    /// status of gRPC.
    pub(crate) fn stream(
        self,
        cluster: &str,
        headers: Headers<'_>,
        body: &[u8],
        timeout_ms: u64,
    ) -> Result<u64, NotMade> {
        let imports = imports().ok_or(NotMade::Other)?;
        let lines = lines(headers);
        let mut id = 0;
        // SAFETY: Envoy copies the ranges and writes one number.
        let result = unsafe {
            (imports.http_filter_config_start_http_stream)(
                self.config,
                &raw mut id,
                Buffer::of(cluster.as_bytes()),
                lines.as_ptr(),
                lines.len(),
                Buffer::EMPTY,
                false,
                timeout_ms,
            )
        };
        let id = made(result, id)?;
        // A stream that has ended meanwhile calls its hooks.
        // SAFETY: Envoy copies the range.
        let _ = unsafe {
            (imports.http_filter_config_stream_send_data)(self.config, id, Buffer::of(body), true)
        };
        Ok(id)
    }

    /// The scheduler that wakes this configuration on the main thread.
    pub(crate) fn scheduler(self) -> Option<Scheduler> {
        let imports = imports()?;
        let new = match self.of {
            Extension::Filter => imports.http_filter_config_scheduler_new,
            Extension::Bootstrap => imports.bootstrap_extension_config_scheduler_new,
        };
        // SAFETY: the pointer is Envoy's own.
        let scheduler = unsafe { new(self.config) };
        let of = self.of;
        (!scheduler.is_null()).then_some(Scheduler { scheduler, of })
    }
}

fn lines(headers: Headers<'_>) -> Vec<HeaderLine> {
    let line = |(name, value)| HeaderLine {
        name: Buffer::of(name),
        value: Buffer::of(value),
    };
    headers.iter().map(line).collect()
}

fn made(result: u32, id: u64) -> Result<u64, NotMade> {
    match result {
        sys::CALL_MADE => Ok(id),
        sys::CLUSTER_NOT_FOUND => Err(NotMade::ClusterNotFound),
        // For example a cluster without endpoints, or a circuit breaker: no answer will come.
        _ => Err(NotMade::Other),
    }
}

/// Wakes a configuration on the main thread.
#[derive(Debug)]
pub(crate) struct Scheduler {
    scheduler: EnvoyPtr,
    of: Extension,
}

// SAFETY: Envoy takes commits from any thread.
unsafe impl Send for Scheduler {}
// SAFETY: as above.
unsafe impl Sync for Scheduler {}

impl Scheduler {
    /// Makes Envoy run the configuration's hook on the main thread soon. It may be called on any
    /// thread.
    pub(crate) fn commit(&self) {
        if let Some(imports) = imports() {
            let commit = match self.of {
                Extension::Filter => imports.http_filter_config_scheduler_commit,
                Extension::Bootstrap => imports.bootstrap_extension_config_scheduler_commit,
            };
            // SAFETY: the scheduler lives as long as `self`.
            unsafe { commit(self.scheduler, 0) };
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        if let Some(imports) = imports() {
            let delete = match self.of {
                Extension::Filter => imports.http_filter_config_scheduler_delete,
                Extension::Bootstrap => imports.bootstrap_extension_config_scheduler_delete,
            };
            // SAFETY: the scheduler is Envoy's, and no other code uses it any more.
            unsafe { delete(self.scheduler) };
        }
    }
}

/// Lets Envoy open its listeners. Envoy waits for this call of every bootstrap extension.
///
/// # Safety
/// `config` is the configuration that Envoy passed to the running hook.
pub(crate) unsafe fn signal_init_complete(config: EnvoyPtr) {
    if let Some(imports) = imports() {
        // SAFETY: as the caller guarantees.
        unsafe { (imports.bootstrap_extension_config_signal_init_complete)(config) };
    }
}
