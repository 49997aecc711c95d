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
    let named = |envoy: EnvoyBinary| (format!("Envoy {}", envoy.reported_version()), envoy);
    each(envoys.into_iter().map(named), |envoy| test(&envoy));
}

/// Runs a test on each case, which has a name. It runs on all of them, also after a failure.
///
/// # Panics
/// If the test panicked on a case. The message has the name of each such case with its failure.
#[track_caller]
pub fn each<T>(cases: impl IntoIterator<Item = (String, T)>, mut test: impl FnMut(T)) {
    let mut count = 0;
    let mut failures = Vec::new();
    for (name, case) in cases {
        count += 1;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(case))) {
            failures.push(format!("{name}: {}", message(panic.as_ref())));
        }
    }
    if !failures.is_empty() {
        panic!(
            "failed on {} of {count}\n{}",
            failures.len(),
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
