//! Code that the formats of a single header share.

use meshtrace_headers::Value;

use crate::{Outgoing, TraceContext};

/// Returns the value for a format that has one header, and that cannot carry a decision without
/// ids. This is the value that `arrived`, where it `says` the context already. Otherwise `write`
/// makes it from the context.
pub(super) fn only_header<'a>(
    outgoing: &Outgoing,
    arrived: Option<&'a [u8]>,
    says: impl FnOnce(&TraceContext) -> bool,
    write: impl FnOnce(&TraceContext) -> Option<Value<'a>>,
) -> Option<Value<'a>> {
    match outgoing {
        Outgoing::Nothing | Outgoing::Sampling(_) => None,
        Outgoing::Context(context) if says(context) => arrived.map(Value::Borrowed),
        Outgoing::Context(context) => write(context),
    }
}
