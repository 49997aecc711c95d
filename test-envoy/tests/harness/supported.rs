//! `each_supported` runs a test on every version, and a failure says on which.

use std::panic::{AssertUnwindSafe, catch_unwind};

use envoy_test_harness::{EnvoyBinary, each_supported};

#[test]
fn a_failure_names_its_version_and_the_others_are_run_too() {
    let mut versions = Vec::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        each_supported(|envoy| {
            versions.push(envoy.reported_version().to_owned());
            assert!(!envoy.is_at_least(1, 39), "too new");
        });
    }));
    assert_eq!(versions, EnvoyBinary::SUPPORTED);
    let message = outcome.unwrap_err().downcast::<String>().unwrap();
    assert_eq!(
        *message,
        "failed on 2 of 4\nEnvoy 1.39.3: too new\nEnvoy 1.40.0: too new"
    );
}
