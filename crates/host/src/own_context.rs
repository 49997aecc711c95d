//! The context that a root context keeps for a request whose filters run more than once.
//!
//! After an internal redirect Envoy makes a new stream and runs its filters with the headers that
//! they wrote the first time. Filter state is kept where it is declared to live as long as the
//! request (`declare_property`, `source/extensions/common/wasm/ext/declare_property.proto`). A
//! client cannot set it. Each root context has a key of its own, so that no filter of a chain reads
//! the context of another filter.

use meshtrace_envoy::filter_state;
use meshtrace_propagation::IdGenerator;

use crate::call;

/// The property of one root context.
#[derive(Debug)]
pub(crate) struct OwnContext(Box<[u8]>);

impl OwnContext {
    /// `None` where the host has no such properties: each pass is then a request of its own.
    #[inline(never)]
    pub(crate) fn declare(ids: &IdGenerator) -> Option<Self> {
        let key = format!("meshtrace_context_{:016x}", ids.random());
        declare(&key)?;
        // The log line of the last pass has this id too. Another filter may have declared it
        // already.
        let _ = declare(filter_state::PREVIOUS_TRACE_ID);
        Some(Self(key.into_bytes().into_boxed_slice()))
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.0
    }
}

/// Declares bytes that live as long as the downstream request.
fn declare(name: &str) -> Option<()> {
    // DeclarePropertyArguments: field 1 is `name`, field 5 `span`, of which 1 is
    // `DownstreamRequest`.
    let length = u8::try_from(name.len())
        .ok()
        .filter(|length| *length < 0x80)?;
    let arguments = [&[0x0a, length], name.as_bytes(), &[0x28, 1]].concat();
    call::foreign("declare_property", &arguments).ok()?;
    Some(())
}
