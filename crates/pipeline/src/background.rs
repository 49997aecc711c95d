//! The work of a filter besides requests.

use core::time::Duration;

use meshtrace_otlp::{Dispatch, Exporter, HttpCallResponse};

use crate::{SharedData, Stage};

/// HTTP calls that a filter makes besides requests. They are made only in callbacks of the root
/// context: the response to a call that a request's context makes at its end never arrives.
///
/// Every `now` is in nanoseconds on the monotonic clock.
pub trait Background {
    /// Returns the tick period from now on; `None` where no ticks are needed.
    fn tick_period(&self) -> Option<Duration>;

    /// The tick period has passed. Makes the calls that are due.
    fn on_tick(&self, now: u64, dispatch: Dispatch<'_>);

    /// The response to the call with `token` has come. Makes the calls that follow.
    fn on_http_call_response(
        &self,
        token: u32,
        response: &HttpCallResponse<'_>,
        dispatch: Dispatch<'_>,
    );

    /// The root context is about to end. Makes all calls that are left. Returns whether no response
    /// is outstanding.
    fn on_done(&self, now: u64, dispatch: Dispatch<'_>) -> bool;

    /// Whether [`on_done`](Self::on_done) was called and no response is outstanding.
    fn is_done(&self) -> bool;

    /// Calls `take` for each counter that has moved since the last time, with the stage, the index
    /// of the counter in [`Stage::metrics`], and the amount.
    fn take_counts(&self, take: &mut dyn FnMut(Stage, usize, u64));

    /// Returns a line for the log at error level, once for each problem: what one worker says, the
    /// others learn from the data that they share.
    fn take_error(&self, shared: &dyn SharedData) -> Option<String>;
}

/// Returns the line that this worker is to write about exports that fail. The workers of a
/// configuration write one together: its time, and the spans that were lost without a line, are in
/// the data that they share.
#[inline(never)]
pub fn export_error(exporter: &mut Exporter, shared: &dyn SharedData) -> Option<String> {
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
    let mut lost = complaint.lost().unwrap_or(0);
    if let Some(own) = complaint.lost() {
        change(shared, "export.lost", cluster, &mut |before| {
            lost = before.saturating_add(own);
            Some(if is_said { lost } else { 0 })
        });
    }
    (!is_said).then(|| complaint.line(cluster, lost))
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
