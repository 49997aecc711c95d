//! `access_log_trace`: which ids and facts a line of the access log has.

mod answers;
mod collector;
mod ids;
mod repeated;
mod server_timing;
