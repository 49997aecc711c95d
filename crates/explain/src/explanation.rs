//! What a filter did to a request, as values.

use serde::Serialize;

/// What a filter did to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The filter's name.
    pub filter: &'static str,
    /// The warnings about the configuration, which is valid.
    pub cautions: Vec<String>,
    /// The formats that were read, with their headers as they arrived.
    pub read: Vec<ReadFormat>,
    /// The sampling rule that the request fits; `None` where no rule was looked for.
    pub rule: Option<Rule>,
    /// Whether the configuration has sampling rules, or a default for them.
    pub has_rules: bool,
    /// Whether the trace is recorded, as far as the filter or the headers that leave show it.
    pub sampled: Option<bool>,
    /// The attributes of the request, with their final values.
    pub attributes: Vec<Attribute>,
    /// The attributes whose values were found and left out, by a transformation.
    pub left_out: Vec<LeftOut>,
    /// The request headers that differ when the request leaves, by name.
    pub headers: Vec<HeaderChange>,
    /// Whether the filter writes the headers as filter state. The route configuration then changes
    /// the headers.
    pub headers_by_filter_state: bool,
    /// The filter state that is set, in order.
    pub filter_state: Vec<FilterState>,
    /// The span that is opened; `None` where the filter is no tracer.
    pub span: Option<Span>,
    /// The counters that move by one.
    pub counters: Vec<MovedCounter>,
    /// The ids that were made for this request.
    pub generated: Vec<String>,
    /// The properties that the filter read and that were not given.
    pub unknown_properties: Vec<String>,
    /// Whether the filter also handles the response, which is not explained.
    pub continues_with_response: bool,
    /// Whether the filter also ran at the end of the request, with the headers as they left the
    /// filter. This is so in a proxy without a tracer of its own.
    pub ends_without_tracer: bool,
    /// Every request header line as it leaves.
    #[serde(skip)]
    pub left: Vec<(String, String)>,
}

impl Explanation {
    /// The counters of `section`.
    pub(crate) fn counters_of(&self, section: Section) -> impl Iterator<Item = &MovedCounter> {
        let counters = self.counters.iter();
        counters.filter(move |counter| counter.section == section)
    }

    /// The filter state of `section`.
    pub(crate) fn filter_state_of(&self, section: Section) -> impl Iterator<Item = &FilterState> {
        let states = self.filter_state.iter();
        states.filter(move |state| state.section == section)
    }
}

/// A step of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// Reads the trace context.
    Extract,
    /// Decides whether the trace is recorded.
    Sample,
    /// Gathers attributes.
    Gather,
    /// Writes the request's headers.
    Inject,
    /// Sets the ids for the access log.
    Ids,
    /// Reports the span.
    Report,
}

/// A format whose headers arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadFormat {
    /// The name of the format.
    pub format: &'static str,
    /// Its header lines in the request.
    pub headers: Vec<(String, String)>,
    /// Whether the context was taken from it.
    pub chosen: bool,
    /// Whether the headers that arrived were not valid.
    pub malformed: bool,
}

/// A rule and its decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its name, or its place in the list; `default` where the request fits no rule.
    pub name: String,
    /// `sampled`, `dropped` or `unchanged`.
    pub says: String,
}

/// An attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attribute {
    /// Its key on the span.
    pub key: String,
    /// The value of its source, cut to the limit of all values; `None` where the source had none,
    /// so that the value is the default.
    pub raw: Option<String>,
    /// Its final value.
    pub value: String,
}

/// An attribute that a transformation left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Its key.
    pub key: String,
    /// The value of its source.
    pub raw: String,
}

/// A header whose lines have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeaderChange {
    /// The name, lower-case.
    pub name: String,
    /// The values of its lines as they came.
    pub before: Vec<String>,
    /// The values of its lines as they leave.
    pub after: Vec<String>,
}

/// Filter state that is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FilterState {
    /// The step that sets it.
    pub section: Section,
    /// The key, as access logs and custom tags read it.
    pub key: String,
    /// The text.
    pub value: String,
}

/// The span that is opened for the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// The trace.
    pub trace_id: String,
    /// The span.
    pub span_id: String,
    /// The caller's span; `None` for the root of a trace.
    pub parent_span_id: Option<String>,
    /// Whether it is exported whatever happens to the request.
    pub sampled: bool,
    /// Whether it is not exported even where the request fails.
    pub never: bool,
    /// W3C's `tracestate` of the span; empty where there is none.
    pub tracestate: String,
}

/// A counter that moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MovedCounter {
    /// The step that counts.
    pub section: Section,
    /// Its name in Envoy, without `wasmcustom.`.
    pub name: String,
    /// The meaning of the counter.
    pub meaning: String,
}
