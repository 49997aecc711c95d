//! The exports that the host calls, and the contexts that it makes.
//!
//! The SDK's dispatcher does the same for any filter. It takes 20 kB of a module, with the hash maps
//! and the seed that it brings, and ends the VM on a context that it does not know.

use std::cell::RefCell;

use crate::contexts::Contexts;

/// What a root context does: one plugin configuration on one worker.
pub trait RootContext {
    /// Reads the configuration. Returns whether the host may use it.
    fn on_configure(&mut self) -> bool;

    /// A tick's period has passed.
    fn on_tick(&mut self);

    /// The context is about to end. Returns whether it may end at once.
    fn on_done(&mut self) -> bool;

    /// A request begins.
    fn new_stream(&mut self) -> Box<dyn StreamContext>;
}

/// What the context of one request does. It always continues: tracing never fails a request.
pub trait StreamContext {
    /// The request's headers are there.
    fn on_request_headers(&mut self);

    /// The response's headers are there.
    fn on_response_headers(&mut self);

    /// The response's trailers are there.
    fn on_response_trailers(&mut self);

    /// The request has ended.
    fn on_log(&mut self);
}

/// Makes a root context with the id that it is given.
pub type NewRoot = fn(u32) -> Box<dyn RootContext>;

pub(crate) enum Context {
    Root(Box<dyn RootContext>),
    Stream(Box<dyn StreamContext>),
}

/// `Action::Continue`.
const CONTINUE: u32 = 0;

thread_local! {
    static NEW_ROOT: RefCell<Option<NewRoot>> = const { RefCell::new(None) };
    static CONTEXTS: RefCell<Contexts> = const { RefCell::new(Contexts::new()) };
}

/// Sets what makes the root contexts of this VM.
pub fn set_root_context(new_root: NewRoot) {
    NEW_ROOT.set(Some(new_root));
}

/// `None` within a callback of another context, from where the host calls no other one.
fn contexts<T>(with: impl FnOnce(&mut Contexts) -> T) -> Option<T> {
    let result =
        CONTEXTS.try_with(|contexts| contexts.try_borrow_mut().ok().map(|mut all| with(&mut all)));
    result.ok().flatten()
}

#[inline(never)]
fn with_root(id: u32, run: &mut dyn FnMut(&mut dyn RootContext)) {
    contexts(|contexts| {
        if let Some(Context::Root(root)) = contexts.get(id) {
            run(&mut **root);
        }
    });
}

fn with_stream(id: u32, run: fn(&mut dyn StreamContext)) -> u32 {
    contexts(|contexts| {
        if let Some(Context::Stream(stream)) = contexts.get(id) {
            run(&mut **stream);
        }
    });
    CONTINUE
}

/// `proxy_on_context_create`: without a `parent` it is a root context.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(id: u32, parent: u32) {
    let mut context = None;
    if parent == 0 {
        context = NEW_ROOT.with_borrow(|new| new.map(|new| Context::Root(new(id))));
    } else {
        with_root(parent, &mut |root| {
            context = Some(Context::Stream(root.new_stream()));
        });
    }
    if let Some(context) = context {
        // One of the same id would be dropped after the table is released.
        let before = contexts(|contexts| contexts.insert(id, context));
        drop(before);
    }
}

/// `proxy_on_vm_start`: there is nothing to do for a VM.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(_id: u32, _size: usize) -> bool {
    true
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(id: u32, _size: usize) -> bool {
    let mut is_usable = true;
    with_root(id, &mut |root| is_usable = root.on_configure());
    is_usable
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(id: u32) {
    with_root(id, &mut |root| root.on_tick());
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(id: u32, _count: usize, _end_of_stream: bool) -> u32 {
    with_stream(id, |stream| stream.on_request_headers())
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(id: u32, _count: usize, _end_of_stream: bool) -> u32 {
    with_stream(id, |stream| stream.on_response_headers())
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_trailers(id: u32, _count: usize) -> u32 {
    with_stream(id, |stream| stream.on_response_trailers())
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(id: u32) {
    with_stream(id, |stream| stream.on_log());
}

/// `proxy_on_done`: a stream may always end at once.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(id: u32) -> bool {
    let mut is_done = true;
    with_root(id, &mut |root| is_done = root.on_done());
    is_done
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(id: u32) {
    // It is dropped after the table is released.
    let context = contexts(|contexts| contexts.remove(id));
    drop(context);
}

/// The version of the ABI, by its name.
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Memory for bytes that the host hands over. It is a boxed slice of them.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    Box::into_raw(Box::<[u8]>::new_uninit_slice(size)).cast()
}
