//! Counting what a look-up does, to prove that it does not grow with the number of rules.

/// Told of each unit of work: a map look-up, a byte of an automaton, a word of a set, a candidate.
pub(super) trait Steps {
    fn step(&mut self);
}

/// Nobody counts: what every request runs with.
impl Steps for () {
    fn step(&mut self) {}
}

impl Steps for u64 {
    fn step(&mut self) {
        *self += 1;
    }
}
