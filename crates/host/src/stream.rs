//! The stream context: one request.

use std::rc::Rc;

use meshtrace_config::RequestHeaders;
use meshtrace_envoy::attribute;
use meshtrace_headers::{Change, Headers};
use meshtrace_pipeline::{
    Composition, LoggedRequest, Lookup as _, Needs, Outcome, Request, Response, direction_of,
};
use meshtrace_propagation::{Direction, Peer};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};

use crate::call;
use crate::running::Running;

pub(crate) struct Stream<C: Composition> {
    pub(crate) running: Option<Rc<Running<C>>>,
    pub(crate) state: C::RequestState,
}

impl<C: Composition> Context for Stream<C> {}

/// Always continues: tracing never fails a request.
impl<C: Composition> HttpContext for Stream<C> {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        if let Some(running) = &self.running {
            running.on_request(&mut self.state);
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        if let Some(running) = &self.running {
            running.on_response(&mut self.state);
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        if let Some(running) = &self.running {
            let composition = &running.composition;
            composition.on_response_trailers(&**running, &mut self.state);
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        if let Some(running) = &self.running {
            running.on_log(&mut self.state);
        }
    }
}

impl<C: Composition> Running<C> {
    fn on_request(&self, state: &mut C::RequestState) {
        let map = MapType::HttpRequestHeaders;
        let Some(block) = self.headers(map) else {
            return;
        };
        let Some(headers) = Headers::parse(&block) else {
            return self.metrics.host_error();
        };
        let needs = self.composition.needs();
        let address = self.address(needs);
        let direction = needs.direction.then(|| self.direction());
        let cluster = self.cluster(needs);
        let properties = self.properties(needs.request_properties);
        let own = self.own_context(&headers);
        let arena = self.arena.take();
        let mut outcome = Outcome::new_in(&arena);
        let request = Request {
            headers,
            peer: Peer {
                address: address.as_deref(),
                direction: direction.unwrap_or_default(),
                own: own.as_deref(),
            },
            cluster: cluster.as_deref(),
            properties: &properties,
            clock: self,
            arena: &arena,
            shared: &self.shared,
        };
        self.composition
            .on_request(&request, &self.ids, state, &mut outcome);
        self.apply(&outcome, map, headers);
        let direction = || direction.unwrap_or_else(|| self.direction());
        self.metrics.add(&outcome, direction);
        let warning = outcome.warning;
        drop(outcome);
        self.give_back(arena);
        if let Some(warning) = self.composition.misplaced(self) {
            self.warn(warning);
        }
        if let Some(warning) = warning {
            self.warn(warning);
        }
    }

    fn on_response(&self, state: &mut C::RequestState) {
        let map = MapType::HttpResponseHeaders;
        let needs = self.composition.needs();
        let mut block = Box::default();
        if needs.response_headers {
            match self.headers(map) {
                Some(bytes) => block = bytes,
                None => return,
            }
        }
        let Some(headers) = Headers::parse(&block) else {
            return self.metrics.host_error();
        };
        let properties = self.properties(needs.response_properties);
        let arena = self.arena.take();
        let mut outcome = Outcome::new_in(&arena);
        let response = Response {
            headers,
            properties: &properties,
            lookup: self,
            arena: &arena,
        };
        self.composition.on_response(&response, state, &mut outcome);
        self.apply(&outcome, map, headers);
        self.metrics.add(&outcome, || self.direction());
        drop(outcome);
        self.give_back(arena);
    }

    fn on_log(&self, state: &mut C::RequestState) {
        let map = MapType::HttpRequestHeaders;
        let mut block = Box::default();
        if C::LOG_NEEDS_HEADERS {
            match self.headers(map) {
                Some(bytes) => block = bytes,
                None => return,
            }
        }
        let Some(request_headers) = Headers::parse(&block) else {
            return self.metrics.host_error();
        };
        let arena = self.arena.take();
        let mut outcome = Outcome::new_in(&arena);
        let request = LoggedRequest {
            request_headers,
            lookup: self,
            ids: &self.ids,
            arena: &arena,
            shared: &self.shared,
        };
        self.composition.on_log(&request, state, &mut outcome);
        self.apply(&outcome, map, request_headers);
        self.metrics.add(&outcome, || self.direction());
        let warning = outcome.warning;
        drop(outcome);
        self.give_back(arena);
        self.set_tick_period();
        if let Some(warning) = warning {
            self.warn(warning);
        }
    }

    fn address(&self, needs: Needs<'_>) -> Option<Box<[u8]>> {
        needs
            .address
            .then(|| self.property(attribute::SOURCE_ADDRESS.property))
            .flatten()
    }

    fn cluster(&self, needs: Needs<'_>) -> Option<Box<[u8]>> {
        needs
            .cluster
            .then(|| self.property(attribute::CLUSTER_NAME.property))
            .flatten()
    }

    /// Looked up for each request: from 1.40 on Envoy has one root context for listeners of every
    /// direction.
    fn direction(&self) -> Direction {
        direction_of(
            self.property(attribute::LISTENER_DIRECTION.property)
                .as_deref(),
        )
    }

    /// Applies `outcome`. `headers` are those of `map`, as they were when the callback began.
    fn apply(&self, outcome: &Outcome<'_>, map: MapType, headers: Headers<'_>) {
        match outcome.request_headers {
            RequestHeaders::Edit => self.edit(outcome, map, headers),
            // The headers are not edited: after an edit, Envoy would choose the route again.
            RequestHeaders::FilterState => {
                for (name, value) in outcome.headers.written() {
                    self.set_property(name, value);
                }
            }
        }
        for property in outcome.properties.iter() {
            self.set_property(property.key, property.value);
        }
        if let (Some(own), Some(context)) = (&self.own_context, &outcome.own_context) {
            self.set_property(own.key(), context);
        }
    }

    fn set_property(&self, key: &[u8], value: &[u8]) {
        if call::set_property(key, value).is_err() {
            self.metrics.host_error();
        }
    }

    fn edit(&self, outcome: &Outcome<'_>, map: MapType, headers: Headers<'_>) {
        for family in outcome.headers.families() {
            for (name, _) in headers.iter().filter(|(name, _)| name.starts_with(family)) {
                if call::remove_header(map, name).is_err() {
                    self.metrics.host_error();
                }
            }
        }
        for edit in outcome.headers.iter() {
            let done = match &edit.change {
                Change::Remove => call::remove_header(map, edit.name),
                Change::Replace(value) => call::replace_header(map, edit.name, value.as_bytes()),
                Change::Append(value) => call::add_header(map, edit.name, value.as_bytes()),
            };
            if done.is_err() {
                self.metrics.host_error();
            }
        }
    }
}
