//! `span_attributes`: which attributes are on the exported spans.

mod configuration;
mod spans;
mod tags;
