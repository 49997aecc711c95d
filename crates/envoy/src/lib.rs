//! The names and numbers of Envoy that the filters use, each with its source.
//!
//! Every name is defined here once, so that the filters, the rendered configuration and the
//! reserved keys cannot differ. Nothing here decides anything: the meaning of a value for a span or
//! for a request is documented in the crate that reads the value.

#![no_std]
#![forbid(unsafe_code)]

pub mod attribute;
pub mod filter_state;
pub mod grpc_status;
pub mod request_header;
pub mod response_code_details;
pub mod response_flag;
pub mod traffic_direction;
