//! What a stage's counters and their tally promise.

use meshtrace_counters::{Counter as _, Tally, counters};

counters! {
    "meshtrace.stage.",
    /// The first.
    First = "first",
    /// The second.
    Second = "second.part",
}

#[test]
fn a_tally_remembers_each_counter_once() {
    let mut tally = Tally::default();
    assert!(!tally.has(Counter::Second));
    tally.count(Counter::Second);
    tally.count(Counter::Second);
    let counted: Vec<_> = tally.iter().collect();
    assert_eq!(counted, [Counter::Second]);
    assert_eq!(tally.bits(), 0b10);
    assert_eq!(format!("{tally:?}"), "{Second}");
}

#[test]
fn a_metric_carries_the_stage_before_its_name() {
    assert_eq!(Counter::Second.metric(), "meshtrace.stage.second.part");
    let metrics = ["meshtrace.stage.first", "meshtrace.stage.second.part"];
    assert_eq!(Counter::METRICS, metrics);
}
