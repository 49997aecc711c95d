//! Envoy's counters, under the same names as those of the Wasm filters.

use std::sync::{Mutex, PoisonError};

use meshtrace_pipeline::{Outcome, Stage};
use meshtrace_propagation::format::Format;
use meshtrace_propagation::{Direction, only_metric};

use crate::boundary;
use crate::call::TracerHandle;

/// The counter of panics that ended at the boundary.
const PANICS: &str = "meshtrace.panics";
/// The counter of spans that no collector is known to have taken when Envoy ended.
const AT_END: &str = "meshtrace.report.dropped.at_end";
const DIRECTIONS: [Direction; 3] = [
    Direction::Unspecified,
    Direction::Inbound,
    Direction::Outbound,
];

/// The counters of one tracer configuration. All are defined while it is made.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// The handle; `None` after the configuration has ended, because Envoy then has no counters for
    /// it.
    handle: Mutex<Option<TracerHandle>>,
    /// The counters of each stage, in the order of [`Stage::ALL`].
    stages: [Counters; Stage::ALL.len()],
    /// The counters of the configuration's own list, in its order.
    configured: Counters,
    /// The counters in the order of [`Format::ALL`] and of [`DIRECTIONS`].
    only: Vec<Counters>,
    panics: Option<usize>,
    at_end: Option<usize>,
}

/// Counters in the order of their names; `None` for a counter that Envoy refused to define.
type Counters = Vec<Option<usize>>;

impl Metrics {
    pub(crate) fn define(handle: TracerHandle, stages: &[Stage], configured: &[String]) -> Self {
        let counter = |name: &str| handle.define_counter(name);
        let of_stage = |stage: Stage| match stages.contains(&stage) {
            true => stage.metrics().iter().map(|name| counter(name)).collect(),
            false => Counters::new(),
        };
        let of_format = |format: &Format| {
            let names = DIRECTIONS.iter();
            names
                .map(|direction| counter(&only_metric(*format, *direction)))
                .collect()
        };
        Self {
            stages: Stage::ALL.map(of_stage),
            configured: configured.iter().map(|name| counter(name)).collect(),
            only: Format::ALL.iter().map(of_format).collect(),
            panics: counter(PANICS),
            at_end: counter(AT_END),
            handle: Mutex::new(Some(handle)),
        }
    }

    /// Moves the counters of one request. `handle` must be of a configuration that is alive. The
    /// spans of a worker keep theirs alive.
    pub(crate) fn add(&self, handle: TracerHandle, outcome: &Outcome<'_>, direction: Direction) {
        for (stage, counters) in Stage::ALL.into_iter().zip(&self.stages) {
            add_bits(handle, counters, outcome.tallies.of(stage));
        }
        for index in outcome.configured.iter() {
            increment(handle, self.configured.get(*index), 1);
        }
        if let Some(format) = outcome.tallies.propagation.only() {
            let row = self.only.get(format as usize);
            let place = DIRECTIONS.iter().position(|known| *known == direction);
            let counter = row.zip(place).and_then(|(row, place)| row.get(place));
            increment(handle, counter, 1);
        }
    }

    /// Moves the counters of `stage` that have a bit in `bits`. `handle` is as in
    /// [`add`](Self::add).
    pub(crate) fn add_bits(&self, handle: TracerHandle, stage: Stage, bits: u64) {
        if let Some(counters) = self.stages.get(stage as usize) {
            add_bits(handle, counters, bits);
        }
    }

    /// Moves the counter at the place `index` of `stage`, where the configuration is alive. It may
    /// be called on any thread.
    pub(crate) fn add_to(&self, stage: Stage, index: usize, amount: u64) {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = *handle
            && let Some(counters) = self.stages.get(stage as usize)
        {
            increment(handle, counters.get(index), amount);
        }
    }

    /// Counts the panics that were caught, where the configuration is alive.
    pub(crate) fn add_panics(&self) {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = *handle {
            match boundary::take_panics() {
                0 => {}
                panics => increment(handle, Some(&self.panics), panics),
            }
        }
    }

    /// Counts spans that are lost because Envoy ends, where the configuration is alive.
    pub(crate) fn add_lost(&self, amount: u64) {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = *handle {
            increment(handle, Some(&self.at_end), amount);
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        handle.is_some()
    }

    /// The configuration ends. Nothing is counted in it after that.
    pub(crate) fn end(&self) {
        let mut handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        *handle = None;
    }
}

fn add_bits(handle: TracerHandle, counters: &Counters, mut bits: u64) {
    while bits != 0 {
        let index = usize::try_from(bits.trailing_zeros()).unwrap_or(usize::MAX);
        bits &= bits - 1;
        increment(handle, counters.get(index), 1);
    }
}

fn increment(handle: TracerHandle, counter: Option<&Option<usize>>, amount: u64) {
    if let Some(Some(counter)) = counter {
        handle.increment(*counter, amount);
    }
}
