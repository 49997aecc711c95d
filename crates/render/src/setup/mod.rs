//! The whole set-up: the filters themselves, and everything around them, for one kind of proxy.
//!
//! [`Setup::render`] is the entry. It composes several filters into one consistent answer: their
//! order, the header mutations before the tracer, the filters behind it, tags, access log, routes,
//! clusters.

mod clusters;
mod envoy;
mod input;
mod istio;
mod module;
mod part;
mod placed;
mod plan;
mod refusal;
mod rendering;
mod stages;

pub use input::{Filter, FilterSetup, Host, ProxyTracer, Role, Setup};
pub use refusal::Refused;
pub use rendering::{Kind, Piece, Rendering};
