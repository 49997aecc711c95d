//! The module looks up Envoy's functions in the program. So a test that stands for Envoy must export
//! its own.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-tests=-rdynamic");
}
