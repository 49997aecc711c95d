//! The answers to calls that root contexts made.
//!
//! The SDK's dispatcher ends the VM on the answer to a call that its own function did not make, and
//! its own function ends it on statuses that it does not know. So this export takes the place of
//! the SDK's: the release step gives it that one's name.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

/// Who waits for answers.
pub(crate) trait Answered {
    fn on_answer(&self, token: u32, body_size: usize);
}

thread_local! {
    /// The root contexts of this VM that wait, by their ids. What they wait for is their own.
    static WAITING: RefCell<Vec<(u32, Weak<dyn Answered>)>> = const { RefCell::new(Vec::new()) };
}

fn with_waiting<T>(with: impl FnOnce(&mut Vec<(u32, Weak<dyn Answered>)>) -> T) -> Option<T> {
    // None of the three callers calls another one. Natively a thread's end may come before a root
    // context's.
    WAITING
        .try_with(|waiting| {
            waiting
                .try_borrow_mut()
                .ok()
                .map(|mut waiting| with(&mut waiting))
        })
        .ok()
        .flatten()
}

/// Hands answers to the root context `context` over to `answered`.
pub(crate) fn expect<A: Answered + 'static>(context: u32, answered: &Rc<A>) {
    let answered: Weak<A> = Rc::downgrade(answered);
    with_waiting(|waiting| waiting.push((context, answered)));
}

/// The root context `context` waits no more.
pub(crate) fn forget(context: u32) {
    with_waiting(|waiting| waiting.retain(|(id, _)| *id != context));
}

/// `proxy_on_http_call_response` (proxy-wasm ABI 0.2.1): no headers where there was no answer.
#[unsafe(no_mangle)]
extern "C" fn meshtrace_on_http_call_response(
    context: u32,
    token: u32,
    _headers: usize,
    body_size: usize,
    _trailers: usize,
) {
    let answered = with_waiting(|waiting| {
        let mut all = waiting.iter();
        all.find(|(id, _)| *id == context)
            .and_then(|(_, answered)| answered.upgrade())
    });
    if let Some(answered) = answered.flatten() {
        answered.on_answer(token, body_size);
    }
}
