//! The stages. Each stage does one thing with a request, the same in every filter that has it.

pub(crate) mod access_log;
pub(crate) mod attributes;
pub(crate) mod propagation;
pub(crate) mod report;
pub(crate) mod sampling;
