//! `span_attributes`: business attributes for the proxy's own spans.

use meshtrace_attributes::{Counter, SpanAttributesConfig};
use meshtrace_config::{ConfigError, Draft};
use meshtrace_propagation::IdGenerator;

use crate::by_filter_state::write_all;
use crate::properties::PropertyPaths;
use crate::stage::attributes::AttributesStage;
use crate::{
    ByFilterState, Callback, Composition, Needs, Outcome, Proxy, Request, Response, Stage,
};

/// The `span_attributes` filter.
#[derive(Debug)]
pub struct SpanAttributes {
    attributes: AttributesStage,
    by_filter_state: Option<ByFilterState>,
    request_properties: PropertyPaths,
    response_properties: PropertyPaths,
}

impl Composition for SpanAttributes {
    const NAME: &'static str = "span_attributes";
    const CALLBACKS: &'static [Callback] = &[Callback::RequestHeaders, Callback::ResponseHeaders];
    const STAGES: &'static [Stage] = &[Stage::Attributes];
    type RequestState = ();

    fn from_json(json: &[u8], proxy: &Proxy<'_>) -> Result<Self, ConfigError> {
        Draft::<SpanAttributesConfig>::read(json)
            .compile(|config| {
                let mut request_properties = PropertyPaths::default();
                let mut response_properties = PropertyPaths::default();
                let attributes = AttributesStage::new(
                    config,
                    proxy.environment,
                    &mut request_properties,
                    &mut response_properties,
                )?;
                Ok(Self {
                    by_filter_state: ByFilterState::new(
                        config.request_headers,
                        &attributes.managed_headers(),
                        &config.attributes,
                    )?,
                    attributes,
                    request_properties,
                    response_properties,
                })
            })
            .map_err(|error| error.below(Self::NAME))
    }

    fn needs(&self) -> Needs<'_> {
        Needs {
            request_properties: &self.request_properties,
            response_headers: self.attributes.needs_response_headers(),
            response_properties: &self.response_properties,
            ..Needs::default()
        }
    }

    fn by_filter_state(&self) -> Option<&ByFilterState> {
        self.by_filter_state.as_ref()
    }

    fn summary(&self) -> String {
        self.attributes.summary()
    }

    fn cautions(&self) -> Vec<String> {
        self.attributes.cautions(Self::NAME)
    }

    #[inline(never)]
    fn on_request<'a>(
        &'a self,
        request: &Request<'a>,
        _ids: &IdGenerator,
        (): &mut (),
        outcome: &mut Outcome<'a>,
    ) {
        self.attributes.gather_request(request, outcome);
        if !write_all(self.by_filter_state.as_ref(), request, outcome) {
            outcome.tallies.attributes.count(Counter::Dropped);
        }
    }

    #[inline(never)]
    fn on_response<'a>(&'a self, response: &Response<'a>, (): &mut (), outcome: &mut Outcome<'a>) {
        self.attributes.gather_response(response, outcome);
    }
}
