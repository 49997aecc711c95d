//! What a filter does besides requests.

use core::time::Duration;

use meshtrace_otlp::{Dispatch, HttpCallResponse};

use crate::Stage;

/// Calls of a filter's own. The host makes them, and only from callbacks of the root context: the
/// answer to a call that a request's context makes at its end never arrives.
pub trait Background {
    /// How often to be woken from now on; `None` for not at all.
    fn tick_period(&self) -> Option<Duration>;

    /// Some time has passed: makes the calls that are due. Every `now` is in nanoseconds of a clock
    /// that is never set.
    fn on_tick(&self, now: u64, dispatch: Dispatch<'_>);

    /// The call with `token` is answered; makes the calls that follow from it.
    fn on_http_call_response(
        &self,
        token: u32,
        answer: &HttpCallResponse<'_>,
        dispatch: Dispatch<'_>,
    );

    /// The root context is about to end: makes all calls that are left. Returns whether nothing is
    /// left to wait for.
    fn on_done(&self, now: u64, dispatch: Dispatch<'_>) -> bool;

    /// Whether the root context was told to end, and nothing is left to wait for.
    fn is_done(&self) -> bool;

    /// Hands over what was counted since the last time: the stage, the place of the counter in its
    /// [`Stage::metrics`], and by how much.
    fn take_counts(&self, take: &mut dyn FnMut(Stage, usize, u64));

    /// A line for the log, where there is something that a person must know.
    fn take_complaint(&self) -> Option<String>;
}
