//! Envoy's counters and gauges.

use meshtrace_pipeline::{Stage, Tallies};
use proxy_wasm::types::{LogLevel, MetricType};

use crate::call;

/// Refused host calls: edits or counts that did not happen.
const HOST_ERRORS: &str = "meshtrace.host_errors";
/// 1 while a plugin runs without the configuration that it was given.
const CONFIG_INVALID: &str = "meshtrace.config_invalid";

/// The metrics of one root context, defined once.
#[derive(Debug)]
pub(crate) struct Metrics {
    stages: Vec<(Stage, Counters)>,
    host_errors: Option<u32>,
}

/// In the order of [`Stage::metrics`]; `None` where the host refused to define it.
type Counters = Vec<Option<u32>>;

impl Metrics {
    pub(crate) fn define(stages: &[Stage]) -> Self {
        let counters = |stage: Stage| {
            let names = stage.metrics().iter();
            names
                .map(|name| define(MetricType::Counter, name))
                .collect()
        };
        Self {
            stages: stages
                .iter()
                .map(|stage| (*stage, counters(*stage)))
                .collect(),
            host_errors: define(MetricType::Counter, HOST_ERRORS),
        }
    }

    /// Moves the counters of one request.
    pub(crate) fn add(&self, tallies: &Tallies) {
        for (stage, counters) in &self.stages {
            let mut bits = tallies.of(*stage);
            while bits != 0 {
                let index = usize::try_from(bits.trailing_zeros()).unwrap_or(usize::MAX);
                bits &= bits - 1;
                self.increment(counters, index, 1);
            }
        }
    }

    /// Moves the counter at the place `index` of `stage`.
    pub(crate) fn add_to(&self, stage: Stage, index: usize, amount: u64) {
        if let Some((_, counters)) = self.stages.iter().find(|(of, _)| *of == stage) {
            self.increment(counters, index, i64::try_from(amount).unwrap_or(i64::MAX));
        }
    }

    fn increment(&self, counters: &[Option<u32>], index: usize, amount: i64) {
        if let Some(metric) = counters.get(index).copied().flatten()
            && call::increment_metric(metric, amount).is_err()
        {
            self.host_error();
        }
    }

    pub(crate) fn host_error(&self) {
        if let Some(metric) = self.host_errors {
            // A host that refuses this too has no way left to be told.
            let _ = call::increment_metric(metric, 1);
        }
    }
}

/// Says whether a plugin runs without the configuration that it was given; `None` changes nothing,
/// but lets Envoy show the gauge.
pub(crate) fn record_config_invalid(invalid: Option<bool>) {
    if let Some(metric) = define(MetricType::Gauge, CONFIG_INVALID)
        && let Some(invalid) = invalid
        && let Err(status) = call::record_metric(metric, u64::from(invalid))
    {
        call::log(
            LogLevel::Warn,
            &format!("{CONFIG_INVALID} could not be set: {status}"),
        );
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
