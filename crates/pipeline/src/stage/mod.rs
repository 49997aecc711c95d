//! The stages: each does one thing with a request, in whichever filter it is.

pub(crate) mod access_log;
pub(crate) mod attributes;
pub(crate) mod propagation;
pub(crate) mod report;
pub(crate) mod sampling;
