//! The token bucket: never more than the rate and one bucket.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

use std::cell::Cell;

use meshtrace_sampling::{Bucket, RequestView, RuleDecision, RuleSampler, SamplingConfig, Take};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;

fn sampling(rate: &str) -> RuleSampler {
    let json = format!(r#"{{"default": {{"per_second": {rate}}}}}"#);
    let config: SamplingConfig = meshtrace_config::read(json.as_bytes()).unwrap();
    RuleSampler::new(&config, &|_| None).unwrap()
}

/// The shared entry, and a worker that takes from it.
#[derive(Default)]
struct Store(Cell<Option<[u8; 8]>>);

impl Store {
    fn take(&self, worker: &RuleSampler, now: u64) -> bool {
        let chosen = worker.choose(&RequestView::default());
        let verdict = worker.should_sample(
            chosen,
            || panic!("a rate needs no randomness"),
            |bucket| self.take_from(bucket, now),
        );
        verdict == RuleDecision::Keep(None)
    }

    fn take_from(&self, bucket: &Bucket, now: u64) -> bool {
        if bucket.is_known_empty(now) {
            return false;
        }
        match bucket.take(self.0.get().as_ref().map(<[u8; 8]>::as_slice), now) {
            Take::Write(content) => {
                self.0.set(Some(content));
                true
            }
            Take::Empty => false,
        }
    }
}

#[test]
fn two_workers_take_the_rate_and_at_most_one_bucket_more() {
    for (rate, per_ten_seconds, bucket) in [("5", 50, 5), ("0.5", 5, 1), ("100", 1000, 100)] {
        let store = Store::default();
        let workers = [sampling(rate), sampling(rate)];
        let mut taken = 0;
        for milli in 0..10_000 {
            let now = START + milli * SECOND / 1000;
            taken += workers
                .iter()
                .filter(|worker| store.take(worker, now))
                .count();
        }
        assert!(taken <= per_ten_seconds + bucket, "{rate}: {taken}");
        assert!(taken >= per_ten_seconds, "{rate}: {taken}");
    }
}

#[test]
fn a_bucket_holds_one_second_and_is_full_after_one() {
    let store = Store::default();
    let worker = sampling("5");
    let burst = |now| (0..100).filter(|_| store.take(&worker, now)).count();
    assert_eq!(burst(START), 5);
    assert_eq!(burst(START + SECOND / 5), 1);
    assert_eq!(burst(START + 100 * SECOND), 5);
}

#[test]
fn a_clock_that_is_set_back_does_not_stop_the_samples() {
    let store = Store::default();
    let worker = sampling("1");
    assert!(store.take(&worker, START));
    assert!(!store.take(&worker, START));
    assert!(store.take(&worker, START - 3600 * SECOND));
    assert!(!store.take(&worker, START - 3600 * SECOND));
}

#[test]
fn an_entry_that_cannot_be_read_is_a_full_bucket() {
    let worker = sampling("1");
    let chosen = worker.choose(&RequestView::default());
    for content in [&b""[..], b"1234567", b"123456789"] {
        let mut take = None;
        let _ = worker.should_sample(
            chosen,
            || panic!("a rate needs no randomness"),
            |bucket| {
                take = Some(bucket.take(Some(content), START));
                false
            },
        );
        assert_eq!(take, Some(Take::Write((START + SECOND).to_le_bytes())));
    }
}
