//! The stream context: one request.

use std::rc::Rc;

use meshtrace_headers::{Change, Headers, Scratch};
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
        let direction = needs.direction.then(|| self.direction());
        let peer = Peer {
            address: address.as_deref(),
            direction: direction.unwrap_or_default(),
        };
        let cluster = self.cluster(needs);
        let scratch = Scratch::default();
        let request = Request {
            headers,
            peer,
            cluster: cluster.as_deref(),
            scratch: Some(&scratch),
        };

        let mut outcome = Outcome::default();
        self.composition
            .on_request(&request, &self.ids, &mut outcome);
        self.apply(&outcome);
        let direction = || direction.unwrap_or_else(|| self.direction());
        self.metrics.add(outcome.tally, direction);
    }

    fn address(&self, needs: Needs) -> Option<Box<[u8]>> {
        self.property(needs.address, b"source\0address")
    }

    fn cluster(&self, needs: Needs) -> Option<Box<[u8]>> {
        self.property(needs.cluster, b"xds\0cluster_name")
    }

    /// Asked for each request: from 1.40 on Envoy has one root context for listeners of every
    /// direction.
    fn direction(&self) -> Direction {
        // envoy.config.core.v3.TrafficDirection, as eight little-endian bytes.
        match self.property(true, b"xds\0listener_direction").as_deref() {
            Some([1, 0, 0, 0, 0, 0, 0, 0]) => Direction::Inbound,
            Some([2, 0, 0, 0, 0, 0, 0, 0]) => Direction::Outbound,
            _ => Direction::Unspecified,
        }
    }

    fn property(&self, needed: bool, path: &[u8]) -> Option<Box<[u8]>> {
        if !needed {
            return None;
        }
        call::property(path).unwrap_or_else(|_| {
            self.metrics.host_error();
            None
        })
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
    }
}
