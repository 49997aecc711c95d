//! The export, which runs besides requests.

use core::time::Duration;

use meshtrace_counters::Counter as _;
use meshtrace_otlp::{Answer, Dispatch};

use super::Tracer;
use crate::Stage;
use crate::background::Background;

impl Background for Tracer {
    fn tick(&self) -> Option<Duration> {
        self.exporter.try_borrow().ok()?.tick()
    }

    fn wake(&self, now: u64, dispatch: Dispatch<'_>) {
        if let Ok(mut exporter) = self.exporter.try_borrow_mut() {
            exporter.wake(now, dispatch);
        }
    }

    fn answered(&self, token: u32, answer: &Answer<'_>, dispatch: Dispatch<'_>) {
        if let Ok(mut exporter) = self.exporter.try_borrow_mut() {
            exporter.answered(token, answer, dispatch);
        }
    }

    fn finish(&self, now: u64, dispatch: Dispatch<'_>) -> bool {
        self.exporter
            .try_borrow_mut()
            .is_ok_and(|mut exporter| exporter.finish(now, dispatch))
    }

    fn is_finished(&self) -> bool {
        self.exporter
            .try_borrow()
            .is_ok_and(|exporter| exporter.is_finished())
    }

    fn take_counts(&self, take: &mut dyn FnMut(Stage, usize, u64)) {
        if let Ok(mut exporter) = self.exporter.try_borrow_mut() {
            exporter.take_counts(|counter, amount| take(Stage::Report, counter.index(), amount));
        }
    }

    fn take_complaint(&self) -> Option<String> {
        self.exporter.try_borrow_mut().ok()?.complaint()
    }
}
