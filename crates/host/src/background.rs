//! The callbacks of a root context besides those of its requests: ticks, HTTP calls, and its end.

use meshtrace_headers::Headers;
use meshtrace_pipeline::{
    Background, CallError, Clock as _, Composition, HttpCall, HttpCallResponse,
};
use proxy_wasm::types::{BufferType, LogLevel, MapType};

use crate::call;
use crate::http_calls::Caller;
use crate::running::Running;
use crate::status::Status;

/// The most that is read of a response's body, in bytes: more than any response of OTLP has.
const MAX_RESPONSE: usize = 64 * 1024;

impl<C: Composition> Running<C> {
    fn now(&self) -> u64 {
        self.monotonic().unwrap_or_default()
    }

    pub(crate) fn on_tick(&self) {
        if let Some(background) = self.composition.background() {
            background.on_tick(self.now(), &mut dispatch);
            self.after_callback(background);
        }
    }

    /// Returns whether the host may delete the root context at once.
    pub(crate) fn on_done(&self) -> bool {
        let Some(background) = self.composition.background() else {
            return true;
        };
        let is_done = background.on_done(self.now(), &mut dispatch);
        self.after_callback(background);
        is_done
    }

    /// Another configuration replaces this one in its root context. Sends the spans that wait. From
    /// now on, each span of a stream that still runs is sent at once.
    pub(crate) fn on_replaced(&self) {
        self.is_replaced.set(true);
        self.set_tick_period();
        if self.tick.replace(0) != 0 && call::set_tick_period(0).is_err() {
            self.metrics.host_error();
        }
    }

    /// Counts and logs what happened, and sets the tick period that is needed.
    fn after_callback(&self, background: &dyn Background) {
        self.count_and_log(background);
        self.set_tick_period();
    }

    fn count_and_log(&self, background: &dyn Background) {
        background.take_counts(&mut |stage, index, amount| {
            self.metrics.add_to(stage, index, amount);
        });
        if let Some(error) = background.take_error(&self.shared) {
            call::log(LogLevel::Error, &error);
        }
    }

    pub(crate) fn set_tick_period(&self) {
        let Some(background) = self.composition.background() else {
            return;
        };
        if self.is_replaced.get() {
            // The ticks of the root context are those of another configuration.
            background.on_done(self.now(), &mut dispatch);
            self.count_and_log(background);
            return;
        }
        let tick = background.tick_period().map_or(0, |tick| tick.as_millis());
        let tick = u32::try_from(tick).unwrap_or(u32::MAX);
        if self.tick.replace(tick) != tick && call::set_tick_period(tick).is_err() {
            self.metrics.host_error();
            self.tick.set(0);
        }
    }
}

impl<C: Composition> Caller for Running<C> {
    fn on_http_call_response(&self, token: u32, body_size: usize) {
        let Some(background) = self.composition.background() else {
            return;
        };
        // Without a response there are no headers, no body and no trailers.
        let map = |map| call::headers(map).unwrap_or_default();
        let headers = map(MapType::HttpCallResponseHeaders);
        let trailers = map(MapType::HttpCallResponseTrailers);
        let body = match body_size {
            0 => Box::default(),
            size => call::buffer(BufferType::HttpCallResponseBody, size.min(MAX_RESPONSE))
                .unwrap_or_default(),
        };
        let response = HttpCallResponse {
            headers: Headers::parse(&headers).unwrap_or_default(),
            body: &body,
            trailers: Headers::parse(&trailers).unwrap_or_default(),
            now: self.now(),
            wall: self.wall().unwrap_or_default(),
        };
        background.on_http_call_response(token, &response, &mut dispatch);
        self.after_callback(background);
    }

    fn is_replaced(&self) -> bool {
        self.is_replaced.get()
    }

    fn is_done(&self) -> bool {
        let background = self.composition.background();
        background.is_none_or(Background::is_done)
    }

    fn end(&self) {
        if self.composition.background().is_some() && call::done().is_err() {
            self.metrics.host_error();
        }
    }
}

fn dispatch(call: &HttpCall<'_>) -> Result<u32, CallError> {
    call::http_call(call.cluster, call.headers, call.body, call.timeout).map_err(|status| {
        match status {
            Status::BAD_ARGUMENT => CallError::UnknownCluster,
            _ => CallError::Other,
        }
    })
}
