//! Business attributes: where they come from, what is done to them, and how they are written.
//!
//! A Wasm filter cannot change a span in Envoy. It can set filter state and request headers, and a
//! custom tag of the proxy's tracing configuration copies those onto the span when it ends.
//! [`Attributes`] reads the values, transforms and bounds them; `meshtrace-render` makes the tags
//! from the same configuration. Nothing here calls a host.

#![forbid(unsafe_code)]

mod attribute;
mod attributes;
mod baggage;
mod config;
mod counter;
mod emit;
mod lent;
mod lowercase;
mod replace;
#[cfg(feature = "schema")]
mod schema;
mod source;
mod summary;
mod text;
mod transform;

pub use attribute::{Attribute, Gathered};
pub use attributes::{Attributes, Properties};
pub use config::{
    AttributeConfig, ClaimConfig, EmitConfig, HmacConfig, JwtClaimConfig, MAX_ATTRIBUTES,
    MAX_VALUE, Phase, ReplaceConfig, SourceConfig, SpanAttributesConfig, TransformConfig,
    header_name,
};
pub use counter::{Counter, Tally};
