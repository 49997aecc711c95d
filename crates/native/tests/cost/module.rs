//! The module as `make build` leaves it, and the hooks that Envoy calls for a request.

use core::ffi::{CStr, c_char, c_int, c_void};
use std::ffi::CString;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::host::{self, Buffer, Carrier};
use crate::scenario::Scenario;

#[link(name = "dl")]
unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

type Span = *mut c_void;

macro_rules! hooks {
    ($($name:ident: $hook:literal($($argument:ty),*) $(-> $result:ty)?;)*) => {
        struct Hooks {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Hooks {
            /// # Safety
            /// `library` is the module.
            unsafe fn look_up(library: *mut c_void) -> Self {
                Self {
                    $($name: {
                        let name = concat!("envoy_dynamic_module_on_", $hook, "\0");
                        let name = CStr::from_bytes_until_nul(name.as_bytes()).unwrap();
                        // SAFETY: the name ends with a NUL.
                        let hook = unsafe { dlsym(library, name.as_ptr()) };
                        assert!(!hook.is_null(), "{name:?}");
                        // SAFETY: the module's function of that name has this signature.
                        unsafe {
                            core::mem::transmute::<
                                *mut c_void,
                                unsafe extern "C" fn($($argument),*) $(-> $result)?,
                            >(hook)
                        }
                    },)*
                }
            }
        }
    };
}

hooks! {
    init: "program_init"() -> *const c_char;
    config_new: "tracer_config_new"(*const c_void, Buffer, Buffer) -> *const c_void;
    start: "tracer_start_span"(*const c_void, *const Carrier, Buffer, bool, u32) -> Span;
    set_tag: "tracer_span_set_tag"(Span, Buffer, Buffer);
    inject: "tracer_span_inject_context"(Span, *const Carrier);
    spawn: "tracer_span_spawn_child"(Span, Buffer, i64) -> Span;
    finish: "tracer_span_finish"(Span);
    destroy: "tracer_span_destroy"(Span);
    filter_new: "http_filter_config_new"(*const c_void, Buffer, Buffer) -> *const c_void;
    scheduled: "http_filter_config_scheduled"(*const c_void, *const c_void, u64);
    called: "http_filter_config_http_callout_done"(
        *const c_void, *const c_void, u64, u32, *const [Buffer; 2], usize, *const Buffer, usize
    );
}

/// The module has one list of senders for the process, so one test uses it at a time.
static IN_USE: Mutex<()> = Mutex::new(());

/// The module, with one tracer and the filter that sends its spans.
pub(crate) struct Module {
    _in_use: MutexGuard<'static, ()>,
    hooks: Hooks,
    config: *const c_void,
    filter: *const c_void,
    answered: u64,
}

/// Stands for an object of Envoy, whose address alone matters.
static ENVOY: u8 = 0;

impl Module {
    pub(crate) fn load(config: &str) -> Self {
        let in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/libmeshtrace.so");
        assert!(path.exists(), "{}: run `make build`", path.display());
        let name = CString::new(path.into_os_string().into_encoded_bytes()).unwrap();
        let lazy: c_int = 1;
        // SAFETY: the module's own start does nothing but what a library of Rust does.
        let library = unsafe { dlopen(name.as_ptr(), lazy) };
        assert!(!library.is_null(), "{name:?} cannot be loaded");
        let envoy = (&raw const ENVOY).cast();
        // SAFETY: the hooks get what Envoy passes to them, in its order.
        unsafe {
            let hooks = Hooks::look_up(library);
            assert!(!(hooks.init)().is_null(), "the module runs here");
            let of = |text: &str| Buffer::of(text.as_bytes());
            let config = (hooks.config_new)(envoy, of("mesh_tracing"), of(config));
            let filter = (hooks.filter_new)(envoy, of("mesh_tracing_export"), Buffer::EMPTY);
            assert!(!config.is_null() && !filter.is_null(), "it is refused");
            Self {
                _in_use: in_use,
                hooks,
                config,
                filter,
                answered: host::exports(),
            }
        }
    }

    /// One request, with the calls that Envoy 1.40 makes of a tracer.
    pub(crate) fn request(&self, request: &Scenario) {
        let carrier = Carrier {
            headers: request.headers,
        };
        let hooks = &self.hooks;
        // SAFETY: the hooks get what Envoy passes to them, in its order.
        unsafe {
            let operation = Buffer::of(b"ingress");
            let span = (hooks.start)(self.config, &raw const carrier, operation, true, 2);
            assert!(!span.is_null(), "the request has a span");
            self.tags(span, FIRST_TAGS);
            if request.has_attempt {
                let name = Buffer::of(b"router upstream egress");
                let child = (hooks.spawn)(span, name, 1_700_000_000_000_000_000);
                (hooks.inject)(child, &raw const carrier);
                self.tags(child, ATTEMPT_TAGS);
                self.end(child);
            } else {
                (hooks.inject)(span, &raw const carrier);
            }
            self.tags(span, LAST_TAGS);
            self.end(span);
        }
    }

    /// # Safety
    /// The span is alive.
    unsafe fn tags(&self, span: Span, tags: &[(&str, &str)]) {
        for (key, value) in tags {
            let (key, value) = (Buffer::of(key.as_bytes()), Buffer::of(value.as_bytes()));
            // SAFETY: as the caller guarantees.
            unsafe { (self.hooks.set_tag)(span, key, value) };
        }
    }

    /// # Safety
    /// The span is alive, and not used any more.
    unsafe fn end(&self, span: Span) {
        // SAFETY: as the caller guarantees.
        unsafe {
            (self.hooks.finish)(span);
            (self.hooks.destroy)(span);
        }
    }

    /// Has the module send what is queued, and answers its calls.
    pub(crate) fn export(&mut self) {
        let envoy = (&raw const ENVOY).cast();
        let status = [Buffer::of(b":status"), Buffer::of(b"200")];
        // SAFETY: the hooks get what Envoy passes to them.
        unsafe {
            (self.hooks.scheduled)(envoy, self.filter, 0);
            while self.answered < host::exports() {
                self.answered += 1;
                (self.hooks.called)(
                    envoy,
                    self.filter,
                    self.answered,
                    0,
                    &raw const status,
                    1,
                    core::ptr::null(),
                    0,
                );
                (self.hooks.scheduled)(envoy, self.filter, 0);
            }
        }
    }
}

const NODE: &str = "sidecar~10.0.0.1~shop-5d8f7.default~default.svc.cluster.local";
const REQUEST_ID: &str = "4f1c9b0e-7c52-9d51-8d3f-3ab4b6a3c0de";

/// The tags that Envoy 1.40 sets when a span has started.
const FIRST_TAGS: &[(&str, &str)] = &[("component", "proxy"), ("node_id", NODE), ("zone", "")];

/// The tags that it sets on the span of an attempt.
const ATTEMPT_TAGS: &[(&str, &str)] = &[
    ("http.protocol", "HTTP/1.1"),
    ("upstream_address", "10.0.0.2:8080"),
    ("peer.address", "10.0.0.2:8080"),
    ("component", "proxy"),
    (
        "upstream_cluster",
        "outbound|80||shop.default.svc.cluster.local",
    ),
    (
        "upstream_cluster.name",
        "outbound|80||shop.default.svc.cluster.local",
    ),
    ("http.status_code", "200"),
    ("response_size", "0"),
    ("response_flags", "-"),
];

/// The tags that it sets on the span of a request when the request is over.
const LAST_TAGS: &[(&str, &str)] = &[
    ("guid:x-request-id", REQUEST_ID),
    ("http.url", "http://shop.example.com/api/items?id=7"),
    ("http.method", "GET"),
    ("downstream_cluster", "-"),
    ("user_agent", "curl/8.5.0"),
    ("http.protocol", "HTTP/1.1"),
    ("peer.address", "10.0.0.3"),
    ("request_size", "0"),
    ("component", "proxy"),
    (
        "upstream_cluster",
        "outbound|80||shop.default.svc.cluster.local",
    ),
    (
        "upstream_cluster.name",
        "outbound|80||shop.default.svc.cluster.local",
    ),
    ("http.status_code", "200"),
    ("response_size", "0"),
    ("response_flags", "-"),
];
