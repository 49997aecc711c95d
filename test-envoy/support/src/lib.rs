//! The code that the tests of the filters share: Envoys with a filter between a client, an upstream
//! and a collector.

pub mod applied;
pub mod common;
pub mod ends;
pub mod example;
pub mod host;
pub mod http2;
pub mod joined;
pub mod native;
pub mod page;
pub mod promises;
pub mod refusal;
pub mod rendered;
pub mod reporting;
pub mod rerouting;
pub mod sampling;
pub mod tracers;
