//! The export of spans, which runs in callbacks of the root context.

use core::time::Duration;

use meshtrace_counters::Counter as _;
use meshtrace_otlp::{Dispatch, HttpCallResponse};

use super::Tracer;
use crate::background::{Background, export_error};
use crate::{SharedData, Stage};

impl Background for Tracer {
    fn tick_period(&self) -> Option<Duration> {
        self.exporter.try_borrow().ok()?.tick_period()
    }

    fn on_tick(&self, now: u64, dispatch: Dispatch<'_>) {
        if let Ok(mut exporter) = self.exporter.try_borrow_mut() {
            exporter.on_tick(now, dispatch);
        }
    }

    fn on_http_call_response(
        &self,
        token: u32,
        response: &HttpCallResponse<'_>,
        dispatch: Dispatch<'_>,
    ) {
        if let Ok(mut exporter) = self.exporter.try_borrow_mut() {
            exporter.on_http_call_response(token, response, dispatch);
        }
    }

    fn on_done(&self, now: u64, dispatch: Dispatch<'_>) -> bool {
        self.exporter
            .try_borrow_mut()
            .is_ok_and(|mut exporter| exporter.on_done(now, dispatch))
    }

    fn is_done(&self) -> bool {
        self.exporter
            .try_borrow()
            .is_ok_and(|exporter| exporter.is_done())
    }

    fn take_counts(&self, take: &mut dyn FnMut(Stage, usize, u64)) {
        if let Ok(mut exporter) = self.exporter.try_borrow_mut() {
            exporter.take_counts(|counter, amount| take(Stage::Report, counter.index(), amount));
        }
    }

    fn take_error(&self, shared: &dyn SharedData) -> Option<String> {
        export_error(&mut *self.exporter.try_borrow_mut().ok()?, shared)
    }
}
