//! A block of headers as the proxy-wasm host hands it over, and the edits to make to it.
//!
//! [`Headers`] reads the serialised header map in place: one check, no copies. [`Edits`] holds the
//! changes of a stage, as values; the host crate applies them. The rest is shared by all stages,
//! for names and values of headers: [`written_name`], [`FieldValue`], [`host_name`], [`path_of`],
//! [`PathTemplate`].

#![forbid(unsafe_code)]

mod block;
mod bytes;
mod edits;
mod host;
mod join;
mod name;
mod target;
mod template;
mod token;
mod value;

/// The memory for values that are built during one callback of the host.
pub type Arena = bumpalo::Bump;

pub use block::{Headers, Iter};
pub use bytes::{is_plain, is_without};
pub use edits::{Change, Edit, Edits, Managed};
pub use host::{host_and_port, host_name, server_and_port, without_user};
pub use join::join;
pub use name::{
    FRAMING, NameRefusal, OF_RESPONSES, read_name, read_name_or_pseudo, written_name,
    written_response_name,
};
pub use target::{path_of, query_of};
pub use template::{PathTemplate, Segment, TemplateRefusal};
pub use token::is_token;
pub use value::{FieldValue, Value, field_value};

#[cfg(feature = "encode")]
pub use block::{encode, encode_lines};
