//! The export of spans, which runs in callbacks of the root context.

use core::time::Duration;

use meshtrace_counters::Counter as _;
use meshtrace_otlp::{Dispatch, HttpCallResponse};

use super::Tracer;
use crate::background::Background;
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

    #[inline(never)]
    fn take_error(&self, shared: &dyn SharedData) -> Option<String> {
        let mut exporter = self.exporter.try_borrow_mut().ok()?;
        let complaint = exporter.complaint()?;
        let cluster = exporter.cluster();
        // Where the shared data fail, each worker speaks for itself.
        let mut is_said = false;
        change(shared, complaint.kind(), cluster, &mut |last| {
            let time = complaint.admit(last);
            is_said = time.is_none();
            time
        });
        // The spans that workers lost in silence.
        let mut lost = complaint.lost();
        change(shared, "export.lost", cluster, &mut |before| {
            let all = before.saturating_add(complaint.lost());
            lost = all;
            Some(if is_said { all } else { 0 })
        });
        (!is_said).then(|| complaint.line(cluster, lost))
    }
}

/// Changes the number `name` that the workers share for this `cluster`. One that is not there is 0.
fn change(
    shared: &dyn SharedData,
    name: &str,
    cluster: &str,
    change: &mut dyn FnMut(u64) -> Option<u64>,
) {
    let key = [name.as_bytes(), cluster.as_bytes()].join(&b' ');
    shared.update(&key, &mut |entry| {
        let number = entry.and_then(|entry| entry.try_into().ok());
        change(number.map_or(0, u64::from_le_bytes)).map(u64::to_le_bytes)
    });
}
