//! The harness itself: how it finds, starts, changes and ends an Envoy, and what it records.

mod binary;
mod lifecycle;
mod spans;
mod supported;
mod traffic;
