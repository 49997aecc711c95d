//! `route_sampling`: which traces are sampled.

mod configuration;
mod decisions;
mod matrix;
mod mutation_order;
