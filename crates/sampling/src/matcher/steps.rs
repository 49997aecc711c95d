//! Counts the steps of a look-up, to prove that their number does not grow with the number of
//! rules.

/// Counts units of work: a map look-up, a byte of an automaton, a word of a set, a candidate.
pub(super) trait Steps {
    fn step(&mut self);
}

/// Steps are not counted: requests in a proxy run with this.
impl Steps for () {
    fn step(&mut self) {}
}

impl Steps for u64 {
    fn step(&mut self) {
        *self += 1;
    }
}
