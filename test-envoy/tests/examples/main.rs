//! The examples do what their pages say, on every supported Envoy: the bootstrap is the file that
//! users run, and every command of the page is sent and must be answered with the output that
//! stands below it.

mod access_log;
mod both_sides;
mod edge;
mod first_steps;
mod init;
mod mesh_tracing;
mod native;
mod page;
mod route_sampling;
mod span_attributes;
mod trace_context;
mod upstream_normaliser;
mod walkthrough;
