//! The responses to HTTP calls that root contexts made.
//!
//! The SDK's dispatcher ends the VM on the response to a call that the SDK did not make, and the
//! SDK's function that makes calls ends it on a status that it does not know. So this crate makes
//! the calls itself and has an export of its own for the responses. The release step gives that
//! export the name of the SDK's.

use std::cell::RefCell;
use std::rc::Rc;

/// What makes HTTP calls in a root context.
pub(crate) trait Caller {
    fn on_http_call_response(&self, token: u32, body_size: usize);

    /// Whether its root context runs another configuration by now.
    fn is_replaced(&self) -> bool;

    /// Whether its root context is about to end and no response is outstanding.
    fn is_done(&self) -> bool;

    /// Ends its root context.
    fn end(&self);
}

thread_local! {
    /// The callers of this VM, by the ids of their root contexts. A root context that was
    /// configured again has also the caller that it ran before, as long as a call of that one is in
    /// flight.
    static CALLERS: RefCell<Vec<(u32, Rc<dyn Caller>)>> = const { RefCell::new(Vec::new()) };
}

fn with_callers<T>(with: impl FnOnce(&mut Vec<(u32, Rc<dyn Caller>)>) -> T) -> Option<T> {
    // None of the callers calls another one. Natively a thread's end may come before a root
    // context's.
    CALLERS
        .try_with(|callers| {
            callers
                .try_borrow_mut()
                .ok()
                .map(|mut callers| with(&mut callers))
        })
        .ok()
        .flatten()
}

/// Gives the responses to calls of the root context `context` to `caller`.
pub(crate) fn register<A: Caller + 'static>(context: u32, caller: &Rc<A>) {
    let caller: Rc<A> = Rc::clone(caller);
    with_callers(|callers| callers.push((context, caller)));
}

/// The root context `context` has ended.
pub(crate) fn forget(context: u32) {
    remove(|id, _| id == context);
}

/// Whether no response to a call of the root context `context` is outstanding.
pub(crate) fn is_done(context: u32) -> bool {
    all_of(context).iter().all(|caller| caller.is_done())
}

/// Ends the root context `context` if it is about to end and no response is outstanding.
pub(crate) fn end_if_done(context: u32) {
    let all = all_of(context);
    let current = all.iter().find(|caller| !caller.is_replaced());
    if let Some(current) = current
        && all.iter().all(|caller| caller.is_done())
    {
        current.end();
    }
}

fn all_of(context: u32) -> Vec<Rc<dyn Caller>> {
    let all = with_callers(|callers| {
        let of_context = callers.iter().filter(|(id, _)| *id == context);
        of_context.map(|(_, caller)| Rc::clone(caller)).collect()
    });
    all.unwrap_or_default()
}

fn remove(is_gone: impl Fn(u32, &Rc<dyn Caller>) -> bool) {
    // The removed callers are dropped after the list is released.
    let gone = with_callers(|callers| {
        let gone = callers.extract_if(.., |(id, caller)| is_gone(*id, caller));
        gone.collect::<Vec<_>>()
    });
    drop(gone);
}

/// `proxy_on_http_call_response` (proxy-wasm ABI 0.2.1): no headers where there was no response.
#[unsafe(no_mangle)]
extern "C" fn meshtrace_on_http_call_response(
    context: u32,
    token: u32,
    _headers: usize,
    body_size: usize,
    _trailers: usize,
) {
    // Each caller finds the tokens of its own calls, and ignores the others.
    for caller in all_of(context) {
        caller.on_http_call_response(token, body_size);
    }
    end_if_done(context);
    // A caller that a stream still holds may make further calls.
    remove(|_, caller| caller.is_replaced() && caller.is_done() && Rc::strong_count(caller) == 1);
}
