//! Runs a filter over one request, natively, and explains what it did.
//!
//! [`explain`] compiles a plugin configuration and gives a [`SentRequest`] to the same pipeline that
//! runs in the proxy. The [`Explanation`] holds what the pipeline returned, and nothing else.
//! [`text`] writes it for a person. [`Case`] compares it with what is expected.

#![forbid(unsafe_code)]

mod case;
mod explanation;
mod host;
mod input;
mod left;
mod request;
mod run;
mod sources;
mod text;

pub use case::{Case, Difference, Expected};
pub use explanation::{
    Attribute, Explanation, FilterState, HeaderChange, LeftOut, MovedCounter, ReadFormat, Rule,
    Section, Span,
};
pub use input::{Cases, header_line, json_of, peer, placeless};
pub use request::SentRequest;
pub use run::{explain, explain_mesh_tracing};
pub use text::text;
