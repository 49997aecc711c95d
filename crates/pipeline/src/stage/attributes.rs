//! The stage `span_attributes`: business attributes of a request and of its response.

use arrayvec::ArrayVec;
use meshtrace_attributes::{
    Attribute, Attributes, Counter, Gathered, MAX_ATTRIBUTES, SpanAttributesConfig, Tally,
};
use meshtrace_config::{ConfigError, both};
use meshtrace_headers::{Arena, Headers, Managed};

use crate::by_filter_state::refuse_header_keys;
use crate::properties::{PropertyPaths, PropertyRange};
use crate::stage::below;
use crate::{Environment, Lookup, Outcome, Request, Response};

/// The attributes of a configuration, and the places of the properties that they are made of.
#[derive(Debug)]
pub(crate) struct AttributesStage {
    attributes: Attributes,
    request_properties: PropertyRange,
    response_properties: PropertyRange,
}

impl AttributesStage {
    #[inline(never)]
    pub(crate) fn new(
        config: &SpanAttributesConfig,
        environment: Environment<'_>,
        request_properties: &mut PropertyPaths,
        response_properties: &mut PropertyPaths,
    ) -> Result<Self, ConfigError> {
        let attributes = Attributes::new(config, environment);
        let attributes = both(refuse_header_keys(&config.attributes), attributes)?;
        Ok(Self {
            request_properties: request_properties.add_all(attributes.request_properties()),
            response_properties: response_properties.add_all(attributes.response_properties()),
            attributes,
        })
    }

    pub(crate) fn summary(&self) -> String {
        self.attributes.summary()
    }

    /// The warnings about the stage whose configuration is at `path`.
    pub(crate) fn cautions(&self, path: &str) -> Vec<String> {
        below(path, self.attributes.cautions())
    }

    pub(crate) fn needs_response_headers(&self) -> bool {
        self.attributes.needs_response_headers()
    }

    pub(crate) fn managed_headers(&self) -> Vec<Managed<'_>> {
        self.attributes.managed_headers()
    }

    /// The path template of an attribute that the request's path fits.
    pub(crate) fn template(&self, headers: &Headers<'_>) -> Option<&str> {
        self.attributes.template(headers)
    }

    /// Gathers the attributes of a request, and writes them as the configuration requires.
    #[inline(never)]
    pub(crate) fn gather_request<'a>(
        &'a self,
        request: &Request<'a>,
        outcome: &mut Outcome<'a>,
    ) -> Gathered<'a> {
        let tally = &mut outcome.tallies.attributes;
        let (headers, arena) = (request.headers, request.arena);
        let properties = self.request_properties.of(request.properties);
        let gathered = self
            .attributes
            .of_request(headers, properties, arena, tally);
        let edits = &mut outcome.headers;
        self.attributes
            .write_headers(&gathered, headers, arena, edits, tally);
        if edits.overflowed() {
            tally.count(Counter::Dropped);
        }
        self.set_filter_state(&gathered, outcome);
        gathered
    }

    /// Whether the attributes of a request are written into its headers.
    pub(crate) fn writes_headers(&self) -> bool {
        self.attributes.writes_headers()
    }

    /// Gathers the attributes of a request whose properties are not known. Only its span gets them.
    pub(crate) fn gather<'a>(
        &'a self,
        headers: Headers<'a>,
        arena: &'a Arena,
        tally: &mut Tally,
    ) -> Gathered<'a> {
        self.attributes.of_request(headers, &[], arena, tally)
    }

    /// Gathers the attributes of a response. They are written only as filter state.
    #[inline(never)]
    pub(crate) fn gather_response<'a>(
        &'a self,
        response: &Response<'a>,
        outcome: &mut Outcome<'a>,
    ) -> Gathered<'a> {
        let tally = &mut outcome.tallies.attributes;
        let (headers, arena) = (response.headers, response.arena);
        let properties = self.response_properties.of(response.properties);
        let gathered = self
            .attributes
            .of_response(headers, properties, arena, tally);
        self.set_filter_state(&gathered, outcome);
        gathered
    }

    /// Gathers the attributes of a request that is over and for which nothing was kept. Only its
    /// span gets them, through `describe`.
    pub(crate) fn gather_late(
        &self,
        headers: Headers<'_>,
        lookup: &dyn Lookup,
        arena: &Arena,
        describe: impl FnOnce(Gathered<'_>),
    ) {
        let paths = self.attributes.request_properties();
        let properties: ArrayVec<_, MAX_ATTRIBUTES> = paths
            .iter()
            .take(MAX_ATTRIBUTES)
            .map(|path| lookup.property(path))
            .collect();
        let tally = &mut Tally::default();
        describe(
            self.attributes
                .of_request(headers, &properties, arena, tally),
        );
    }

    /// Gathers the attributes of a `request` for which the filter saw only the end. Only its span
    /// gets them, through `describe`.
    pub(crate) fn describe_late(&self, request: &Request<'_>, describe: impl FnOnce(Gathered<'_>)) {
        let properties = self.request_properties.of(request.properties);
        let tally = &mut Tally::default();
        let (headers, arena) = (request.headers, request.arena);
        describe(
            self.attributes
                .of_request(headers, properties, arena, tally),
        );
    }

    fn set_filter_state<'a>(&self, gathered: &[Attribute<'a>], outcome: &mut Outcome<'a>) {
        if !self.attributes.in_filter_state() {
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
}
