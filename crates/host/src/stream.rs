//! The stream context: one request.

use std::rc::Rc;

use meshtrace_headers::{Change, Headers};
use meshtrace_pipeline::{Composition, Needs, Outcome, Request};
use meshtrace_propagation::{Direction, Peer};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::call;
use crate::root::Running;

pub(crate) struct Stream<C> {
    pub(crate) running: Option<Rc<Running<C>>>,
}

impl<C: Composition> Context for Stream<C> {}

impl<C: Composition> HttpContext for Stream<C> {
    /// Always continues: tracing never fails a request.
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        if let Some(running) = &self.running {
            running.on_request();
        }
        Action::Continue
    }
}

impl<C: Composition> Running<C> {
    fn on_request(&self) {
        let Ok(block) = call::request_headers() else {
            return self.metrics.host_error();
        };
        let Some(headers) = Headers::parse(&block) else {
            return self.metrics.host_error();
        };
        let needs = self.composition.needs();
        let address = self.address(needs);
        let peer = Peer {
            address: address.as_deref(),
            direction: self.direction(needs),
        };

        let mut outcome = Outcome::default();
        self.composition
            .on_request(&Request { headers, peer }, &self.ids, &mut outcome);
        self.apply(&outcome);
    }

    fn address(&self, needs: Needs) -> Option<Box<[u8]>> {
        if !needs.address {
            return None;
        }
        call::property(b"source\0address").unwrap_or_else(|_| {
            self.metrics.host_error();
            None
        })
    }

    fn direction(&self, needs: Needs) -> Direction {
        if !needs.direction {
            return Direction::Unspecified;
        }
        let bytes = call::property(b"xds\0listener_direction").unwrap_or_else(|_| {
            self.metrics.host_error();
            None
        });
        // envoy.config.core.v3.TrafficDirection, as eight little-endian bytes.
        match bytes.as_deref() {
            Some([1, 0, 0, 0, 0, 0, 0, 0]) => Direction::Inbound,
            Some([2, 0, 0, 0, 0, 0, 0, 0]) => Direction::Outbound,
            _ => Direction::Unspecified,
        }
    }

    fn apply(&self, outcome: &Outcome<'_>) {
        for edit in outcome.headers.iter() {
            let done = match &edit.change {
                Change::Remove => call::remove_request_header(edit.name),
                Change::Replace(value) => call::replace_request_header(edit.name, value.as_bytes()),
            };
            if done.is_err() {
                self.metrics.host_error();
            }
        }
        for property in &outcome.properties {
            if call::set_property(property.key().as_bytes(), property.value()).is_err() {
                self.metrics.host_error();
            }
        }
        self.metrics.add(outcome.tally);
    }
}
