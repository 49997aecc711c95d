//! Consistent probability: the specification's numbers, and the shares that are kept.
#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may fail"
)]

use meshtrace_sampling::{
    OtelState, Parent, ParentPolicy, Randomness, RuleDecision, SamplingDecision, Threshold,
};
use serde_json::Value;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// `tracestate-probability-sampling.md` and `tracestate-handling.md` of the OpenTelemetry
/// specification, as cases.
const VECTORS: &str = include_str!("probability.json");

fn text(value: &Value) -> &[u8] {
    value.as_str().expect("a text").as_bytes()
}

fn threshold(value: &Value) -> Threshold {
    Threshold::parse(text(value)).expect("a threshold")
}

fn randomness(value: &Value) -> Randomness {
    Randomness::parse(text(value)).expect("a randomness")
}

#[test]
fn every_vector_of_the_specification_holds() {
    let vectors: Vec<Value> = serde_json::from_str(VECTORS).expect("the vectors");
    assert!(vectors.len() > 15, "{}", vectors.len());
    for vector in &vectors {
        let name = vector["name"].as_str().expect("a name");
        match name.split_once('/').expect("a kind").0 {
            "threshold" => {
                let ratio = vector["probability"].as_f64().expect("a ratio");
                let threshold = Threshold::from_ratio(ratio).expect(name);
                assert_eq!(&*threshold.to_text(), text(&vector["th"]), "{name}");
            }
            "decide" => {
                let keeps = threshold(&vector["th"]).keeps(randomness(&vector["randomness"]));
                assert_eq!(Some(keeps), vector["sampled"].as_bool(), "{name}");
            }
            "ot-parse" => {
                let state = text(&vector["tracestate"]);
                let state = OtelState::parse(state.strip_prefix(b"ot=").expect(name));
                let expect = &vector["expect"];
                let read = |value: &Value| value.as_str().map(str::to_owned);
                let th = state
                    .threshold
                    .map(|th| String::from_utf8(th.to_text().to_vec()).unwrap());
                assert_eq!(th, read(&expect["th"]), "{name}");
                let rv = expect["rv"].as_str().map(|rv| randomness(&rv.into()));
                assert_eq!(state.randomness, rv, "{name}");
                if let Some(rest) = expect["rest"].as_str() {
                    assert_eq!(&*state.with_threshold(None), rest.as_bytes(), "{name}");
                }
            }
            "equalize" => {
                let (came, ours) = (threshold(&vector["T_s"]), threshold(&vector["T_d"]));
                let randomness = randomness(&vector["randomness"]);
                let parent = Parent {
                    sampled: true,
                    threshold: Some(came),
                    randomness,
                };
                let verdict = match ours.keeps(randomness) {
                    true => RuleDecision::Keep(Some(ours)),
                    false => RuleDecision::Drop,
                };
                let decision = SamplingDecision::of(parent, ParentPolicy::RespectDropped, verdict);
                assert_eq!(
                    Some(decision.sampled),
                    vector["sampled"].as_bool(),
                    "{name}"
                );
                if let Some(th) = vector.get("th_out") {
                    assert_eq!(decision.threshold, Some(threshold(th)), "{name}");
                }
            }
            kind => panic!("unknown kind {kind}"),
        }
    }
}

/// SplitMix64: any good mixing of a counter will do, and these ids are the same in every run.
fn ids(count: u64) -> impl Iterator<Item = Randomness> {
    (1..=count).map(|i| {
        let mut z = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Randomness::from_low_bits(z ^ (z >> 31))
    })
}

/// Asserts that the share of `count` ids that is kept lies in its 99.9 % interval.
fn assert_shares(count: u64) {
    for ratio in [0.001, 0.01, 0.1, 0.25, 1.0 / 3.0, 0.5, 0.9, 0.999] {
        let threshold = Threshold::from_ratio(ratio).expect("a ratio");
        let kept = ids(count).filter(|id| threshold.keeps(*id)).count() as f64;
        let expected = ratio * count as f64;
        let deviation = (expected * (1.0 - ratio)).sqrt();
        let limit = 3.291 * deviation;
        assert!(
            (kept - expected).abs() <= limit,
            "{ratio}: {kept} of {count}, expected {expected} ± {limit}"
        );
    }
}

#[test]
fn the_kept_share_lies_in_its_interval() {
    assert_shares(20_000);
}

/// `make long` runs it.
#[test]
#[ignore = "seconds without optimisation"]
fn the_kept_share_of_a_million_ids_lies_in_its_interval() {
    assert_shares(1_000_000);
}

#[test]
fn whoever_keeps_less_keeps_a_part_of_what_others_keep() {
    let one = Threshold::from_ratio(0.01).unwrap();
    let ten = Threshold::from_ratio(0.1).unwrap();
    let mut kept = 0;
    for id in ids(20_000) {
        if one.keeps(id) {
            kept += 1;
            assert!(ten.keeps(id), "{id:?}");
        }
    }
    assert!(kept > 100, "{kept}");
}

#[test]
fn a_ratio_has_a_threshold_only_between_its_limits() {
    for impossible in [0.0, -0.1, 1.000_001, f64::NAN, f64::INFINITY, 1e-17] {
        assert_eq!(Threshold::from_ratio(impossible), None, "{impossible}");
    }
    for ratio in [1.5e-17, 1e-9, 0.999_999_999, 1.0] {
        let threshold = Threshold::from_ratio(ratio).expect("a threshold");
        let text = threshold.to_text();
        assert_eq!(Threshold::parse(&text), Some(threshold), "{ratio}");
    }
}

#[test]
fn a_threshold_that_contradicts_the_flag_is_not_told_on() {
    let keep = |th: &str| Threshold::parse(th.as_bytes());
    let randomness = Randomness::parse(b"80000000000000").unwrap();
    let of = |sampled, threshold, policy, verdict| {
        let parent = Parent {
            sampled,
            threshold,
            randomness,
        };
        let decision = SamplingDecision::of(parent, policy, verdict);
        (decision.sampled, decision.threshold)
    };
    use ParentPolicy::{Ignore, Respect, RespectDropped, RespectSampled};
    use RuleDecision::{Drop, Keep, Unchanged};
    for (sampled, came, policy, verdict, expected) in [
        (true, keep("8"), Respect, Unchanged, (true, keep("8"))),
        (true, keep("9"), Respect, Unchanged, (true, None)),
        (false, keep("9"), Respect, Unchanged, (false, keep("9"))),
        (false, keep("8"), Respect, Unchanged, (false, None)),
        (true, None, Respect, Drop, (true, None)),
        (true, keep("8"), Ignore, Unchanged, (true, keep("8"))),
        (true, keep("8"), Ignore, Drop, (false, None)),
        (true, keep("8"), Ignore, Keep(keep("4")), (true, keep("4"))),
        (false, None, Ignore, Keep(keep("4")), (true, keep("4"))),
        (true, keep("8"), RespectSampled, Drop, (true, keep("8"))),
        (
            true,
            keep("8"),
            RespectSampled,
            Keep(keep("4")),
            (true, keep("4")),
        ),
        (true, None, RespectSampled, Keep(keep("4")), (true, None)),
        (
            false,
            keep("9"),
            RespectSampled,
            Keep(keep("4")),
            (true, keep("4")),
        ),
        (false, None, RespectSampled, Drop, (false, None)),
        (
            false,
            keep("9"),
            RespectDropped,
            Keep(keep("4")),
            (false, keep("9")),
        ),
        (
            true,
            keep("8"),
            RespectDropped,
            Keep(keep("4")),
            (true, keep("8")),
        ),
        (true, keep("8"), RespectDropped, Keep(None), (true, None)),
        (true, keep("8"), RespectDropped, Drop, (false, None)),
    ] {
        let found = of(sampled, came, policy, verdict);
        assert_eq!(found, expected, "{sampled} {came:?} {policy:?} {verdict:?}");
    }
}

#[test]
fn a_new_threshold_leaves_what_others_wrote() {
    let threshold = Threshold::parse(b"c");
    for (before, with, without) in [
        ("", "th:c", ""),
        ("th:8", "th:c", ""),
        (
            "rv:6e6d1a75832a2f",
            "th:c;rv:6e6d1a75832a2f",
            "rv:6e6d1a75832a2f",
        ),
        ("p:8;th:0;r:62", "th:c;p:8;r:62", "p:8;r:62"),
        ("th:8;th:9;junk;x:1", "th:c;x:1", "x:1"),
    ] {
        let state = OtelState::parse(before.as_bytes());
        assert_eq!(
            &*state.with_threshold(threshold),
            with.as_bytes(),
            "{before}"
        );
        assert_eq!(&*state.with_threshold(None), without.as_bytes(), "{before}");
    }
    // There is room for 256 characters: a pair that has none is left out whole.
    let long = format!("a:{};b:1", "x".repeat(252));
    let state = OtelState::parse(long.as_bytes());
    assert_eq!(&*state.with_threshold(threshold), b"th:c;b:1");
}
