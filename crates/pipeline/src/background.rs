//! The work of a filter besides requests.

use core::time::Duration;

use meshtrace_otlp::{Dispatch, HttpCallResponse};

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
