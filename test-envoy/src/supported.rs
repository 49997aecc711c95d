//! One test on every supported version of Envoy.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::EnvoyBinary;

/// Runs a test on each version of [`EnvoyBinary::SUPPORTED`], oldest first. It runs on all of them,
/// also after a failure.
///
/// ```no_run
/// # use envoy_test_harness::config::Bootstrap;
/// # use envoy_test_harness::{Envoy, each_supported};
/// each_supported(|envoy| {
///     let envoy = Envoy::start(envoy, Bootstrap::new()).expect("an Envoy that starts");
///     assert_eq!(envoy.stat("server.live").expect("a gauge"), 1);
/// });
/// ```
///
/// # Panics
/// If the test panicked on a version. The message has each such version with its failure.
#[track_caller]
pub fn each_supported(mut test: impl FnMut(&EnvoyBinary)) {
    let envoys = EnvoyBinary::all_supported().unwrap_or_else(|error| panic!("{error}"));
    let failures: Vec<String> = envoys
        .iter()
        .filter_map(|envoy| {
            let outcome = catch_unwind(AssertUnwindSafe(|| test(envoy)));
            let panic = outcome.err()?;
            Some(format!(
                "Envoy {}: {}",
                envoy.reported_version(),
                message(panic.as_ref())
            ))
        })
        .collect();
    if !failures.is_empty() {
        panic!(
            "failed on {} of {} versions\n{}",
            failures.len(),
            envoys.len(),
            failures.join("\n")
        );
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "a panic without a message",
    }
}
