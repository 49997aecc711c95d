//! Envoy's counters and gauges.

use std::cell::OnceCell;

use meshtrace_pipeline::{CONFIG_INVALID, Outcome, Stage, config_invalid_of};
use meshtrace_propagation::format::Format;
use meshtrace_propagation::{Direction, only_metric};
use proxy_wasm::types::{LogLevel, MetricType};

use crate::call;
use crate::in_force::Invalid;

/// Refused host calls: edits or counts that did not happen.
const HOST_ERRORS: &str = "meshtrace.host_errors";

/// The metrics of one root context, defined once.
#[derive(Debug)]
pub(crate) struct Metrics {
    stages: Vec<(Stage, Counters)>,
    /// In the order of the composition's own list.
    configured: Counters,
    /// In the order of [`Format::ALL`] and of [`Direction`]. Each is defined when it counts for the
    /// first time, because most of them never count.
    only: [[OnceCell<Option<u32>>; 3]; Format::ALL.len()],
    host_errors: Option<u32>,
}

/// In the order of their names; `None` where the host refused to define it.
type Counters = Vec<Option<u32>>;

impl Metrics {
    #[inline(never)]
    pub(crate) fn define(stages: &[Stage], configured: &[String]) -> Self {
        let counter = |name: &str| define(MetricType::Counter, name);
        let counters = |stage: Stage| stage.metrics().iter().map(|name| counter(name)).collect();
        Self {
            stages: stages
                .iter()
                .map(|stage| (*stage, counters(*stage)))
                .collect(),
            configured: configured.iter().map(|name| counter(name)).collect(),
            only: Default::default(),
            host_errors: counter(HOST_ERRORS),
        }
    }

    /// Moves the counters of one request. `direction` is called only where it is needed.
    pub(crate) fn add(&self, outcome: &Outcome<'_>, direction: impl FnOnce() -> Direction) {
        for (stage, counters) in &self.stages {
            let mut bits = outcome.tallies.of(*stage);
            while bits != 0 {
                let index = usize::try_from(bits.trailing_zeros()).unwrap_or(usize::MAX);
                bits &= bits - 1;
                self.increment(counters.get(index).copied().flatten(), 1);
            }
        }
        for index in outcome.configured.iter() {
            self.increment(self.configured.get(*index).copied().flatten(), 1);
        }
        if let Some(format) = outcome.tallies.propagation.only() {
            let direction = direction();
            let row = self.only.get(format as usize);
            if let Some(only) = row.and_then(|row| row.get(direction as usize)) {
                let name = || only_metric(format, direction);
                let metric = only.get_or_init(|| define(MetricType::Counter, &name()));
                self.increment(*metric, 1);
            }
        }
    }

    /// Moves the counter at the place `index` of `stage`.
    pub(crate) fn add_to(&self, stage: Stage, index: usize, amount: u64) {
        if let Some((_, counters)) = self.stages.iter().find(|(of, _)| *of == stage) {
            let amount = i64::try_from(amount).unwrap_or(i64::MAX);
            self.increment(counters.get(index).copied().flatten(), amount);
        }
    }

    fn increment(&self, metric: Option<u32>, amount: i64) {
        if let Some(metric) = metric
            && call::increment_metric(metric, amount).is_err()
        {
            self.host_error();
        }
    }

    pub(crate) fn host_error(&self) {
        if let Some(metric) = self.host_errors {
            // Where the host refuses this too, nothing else can be done.
            let _ = call::increment_metric(metric, 1);
        }
    }
}

/// The gauges that are 1 while a plugin runs without the configuration that it was given. Envoy
/// shows them as soon as they are defined.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConfigGauges {
    /// The gauge of all plugins.
    any: Option<u32>,
    /// The gauge of this plugin; `None` where it has no name.
    own: Option<u32>,
}

impl ConfigGauges {
    /// Defines the gauges of the plugin with this name.
    pub(crate) fn define(plugin: &[u8]) -> Self {
        let gauge = |name: &str| define(MetricType::Gauge, name);
        let own = || gauge(&config_invalid_of(plugin));
        Self {
            any: gauge(CONFIG_INVALID),
            own: (!plugin.is_empty()).then(own).flatten(),
        }
    }

    /// Sets the gauges that have a new value.
    pub(crate) fn record(self, invalid: Invalid) {
        for (gauge, value) in [(self.any, invalid.any), (self.own, invalid.own)] {
            if let (Some(gauge), Some(value)) = (gauge, value)
                && let Err(status) = call::record_metric(gauge, u64::from(value))
            {
                call::log(
                    LogLevel::Warn,
                    &format!("{CONFIG_INVALID} could not be set: {status}"),
                );
            }
        }
    }
}

fn define(kind: MetricType, name: &str) -> Option<u32> {
    call::define_metric(kind, name)
        .inspect_err(|status| {
            call::log(
                LogLevel::Warn,
                &format!("{name} is not counted: the host refused to define it: {status}"),
            );
        })
        .ok()
}
