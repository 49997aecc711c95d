//! `span_attributes`: business attributes for the proxy's own spans.

use meshtrace_attributes::{Attribute, Attributes, Counter, Gathered};
use meshtrace_config::ConfigError;
use meshtrace_propagation::IdGenerator;

use crate::by_filter_state::{refuse_header_keys, say_all};
use crate::{
    ByFilterState, Callback, Composition, Environment, Needs, Outcome, Request, Response, Stage,
};

/// The `span_attributes` filter.
#[derive(Debug)]
pub struct SpanAttributes {
    attributes: Attributes,
    by_filter_state: Option<ByFilterState>,
}

impl Composition for SpanAttributes {
    const NAME: &'static str = "span_attributes";
    const CALLBACKS: &'static [Callback] = &[Callback::RequestHeaders, Callback::ResponseHeaders];
    const STAGES: &'static [Stage] = &[Stage::Attributes];
    type RequestState = ();

    fn from_json(json: &[u8], environment: Environment<'_>) -> Result<Self, ConfigError> {
        meshtrace_plugin_config::span_attributes(json)
            .and_then(|config| {
                refuse_header_keys(&config.attributes)?;
                let attributes = Attributes::new(&config, environment)?;
                Ok(Self {
                    by_filter_state: ByFilterState::new(
                        config.request_headers,
                        &attributes.managed_headers(),
                        &config.attributes,
                    )?,
                    attributes,
                })
            })
            .map_err(|error| error.below(Self::NAME))
    }

    fn needs(&self) -> Needs<'_> {
        Needs {
            request_properties: self.attributes.request_properties(),
            response_headers: self.attributes.needs_response_headers(),
            response_properties: self.attributes.response_properties(),
            ..Needs::default()
        }
    }

    fn by_filter_state(&self) -> Option<&ByFilterState> {
        self.by_filter_state.as_ref()
    }

    #[inline(never)]
    fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        _ids: &IdGenerator,
        (): &mut (),
        outcome: &mut Outcome<'a>,
    ) {
        of_request(&self.attributes, request, outcome);
        if !say_all(self.by_filter_state.as_ref(), request, outcome) {
            outcome.tallies.attributes.count(Counter::Dropped);
        }
    }

    #[inline(never)]
    fn on_response<'a>(&'a self, response: &Response<'a>, (): &mut (), outcome: &mut Outcome<'a>) {
        of_response(&self.attributes, response, outcome);
    }
}

/// Gathers the attributes of a request, and has them leave as the configuration says.
pub(crate) fn of_request<'a>(
    attributes: &'a Attributes,
    request: &Request<'a>,
    outcome: &mut Outcome<'a>,
) -> Gathered<'a> {
    let tally = &mut outcome.tallies.attributes;
    let (headers, arena) = (request.headers, request.arena);
    let properties = request.properties;
    let gathered = attributes.of_request(headers, properties, arena, tally);
    let edits = &mut outcome.headers;
    attributes.write_headers(&gathered, headers, arena, edits, tally);
    if edits.overflowed() {
        tally.count(Counter::Dropped);
    }
    set_filter_state(attributes, &gathered, outcome);
    gathered
}

/// Gathers the attributes of a response, which leave as filter state alone.
pub(crate) fn of_response<'a>(
    attributes: &'a Attributes,
    response: &Response<'a>,
    outcome: &mut Outcome<'a>,
) -> Gathered<'a> {
    let tally = &mut outcome.tallies.attributes;
    let (headers, arena) = (response.headers, response.arena);
    let gathered = attributes.of_response(headers, response.properties, arena, tally);
    set_filter_state(attributes, &gathered, outcome);
    gathered
}

fn set_filter_state<'a>(
    attributes: &Attributes,
    gathered: &[Attribute<'a>],
    outcome: &mut Outcome<'a>,
) {
    if !attributes.in_filter_state() {
        return;
    }
    for attribute in gathered {
        let (key, value) = (attribute.key.as_bytes(), attribute.value.as_bytes());
        outcome.properties.set(key, value);
    }
    if outcome.properties.overflowed() {
        outcome.tallies.attributes.count(Counter::Dropped);
    }
}
