//! The names and numbers of Envoy that the filters rely on, each with its source.
//!
//! Every name stands here once, so that the filters, the rendered configuration and the reserved
//! keys cannot disagree. Nothing here decides anything: what a value means for a span or for a
//! request is said in the crate that reads it.

#![no_std]
#![forbid(unsafe_code)]

pub mod attribute;
pub mod filter_state;
pub mod grpc_status;
pub mod response_code_details;
pub mod response_flag;
pub mod traffic_direction;
