//! What a test expects of the spans that arrived.
//!
//! [`span`] begins an expectation; each further call adds one fact. [`SpanExpectation::find_in`] returns the one span
//! with all of the facts. Where there is no such span, or more than one, it panics: the message has
//! the facts, how the nearest span differs from them, and a waterfall of all spans.
//!
//! ```
//! use envoy_test_harness::{Span, SpanKind, expect};
//!
//! let server = Span { span_id: "00f067aa0ba902b7".into(), kind: SpanKind::Server, ..Span::default() };
//! let client = Span {
//!     parent_span_id: Some(server.span_id.clone()),
//!     kind: SpanKind::Client,
//!     name: "GET".into(),
//!     ..Span::default()
//! };
//! let spans = [server, client];
//!
//! let server = expect::span().of_kind(SpanKind::Server).root().find_in(&spans);
//! expect::span().named("GET").child_of(server).find_in(&spans);
//! ```

use std::fmt;

use span_waterfall::Terminal;

use crate::{Span, SpanKind};

/// An expectation without facts. Every span fulfils it.
pub fn span() -> SpanExpectation {
    SpanExpectation::default()
}

/// The spans of a trace in which each span has one child: from the child of `span_id`, the caller's
/// span, to the last.
///
/// # Panics
/// If a span has no child or more than one before all spans are in the chain. The message has a
/// waterfall.
#[track_caller]
pub fn chain<'a>(spans: &'a [Span], trace_id: &str, span_id: &str) -> Vec<&'a Span> {
    let mut chain: Vec<&Span> = Vec::new();
    while chain.len() < spans.len() {
        let parent = chain.last().map_or(span_id, |last| &last.span_id);
        chain.push(span().child_of_ids(trace_id, parent).find_in(spans));
    }
    chain
}

/// Facts that a test expects of one span.
#[derive(Debug, Clone, Default)]
#[must_use = "an expectation does nothing before it is compared with spans"]
pub struct SpanExpectation {
    facts: Vec<Fact>,
    case: Option<String>,
}

#[derive(Debug, Clone)]
enum Fact {
    Name(String),
    Kind(SpanKind),
    Service(String),
    Trace(String),
    Parent(Option<String>),
    Attribute(String, Option<String>),
    Resource(String, String),
    Error(bool),
    BeginsDuring(Box<Span>),
}

impl SpanExpectation {
    /// The span has this name.
    pub fn named(self, name: &str) -> Self {
        self.and(Fact::Name(name.to_owned()))
    }

    /// The span has this kind.
    pub fn of_kind(self, kind: SpanKind) -> Self {
        self.and(Fact::Kind(kind))
    }

    /// This service reported the span.
    pub fn of_service(self, service: &str) -> Self {
        self.and(Fact::Service(service.to_owned()))
    }

    /// The span is in the trace with this id (32 hexadecimal digits).
    pub fn in_trace(self, trace_id: &str) -> Self {
        self.and(Fact::Trace(trace_id.to_owned()))
    }

    /// The span has no parent.
    pub fn root(self) -> Self {
        self.and(Fact::Parent(None))
    }

    /// The span is a child of this one: it is in the same trace, and its parent id is this span's
    /// id.
    pub fn child_of(self, parent: &Span) -> Self {
        self.child_of_ids(&parent.trace_id, &parent.span_id)
    }

    /// The span is a child of the span with these ids, such as those of a `traceparent` that the
    /// test sent.
    pub fn child_of_ids(self, trace_id: &str, span_id: &str) -> Self {
        self.in_trace(trace_id)
            .and(Fact::Parent(Some(span_id.to_owned())))
    }

    /// The span has the attribute with this value.
    pub fn with(self, key: &str, value: &str) -> Self {
        self.and(Fact::Attribute(key.to_owned(), Some(value.to_owned())))
    }

    /// The span does not have the attribute.
    pub fn without(self, key: &str) -> Self {
        self.and(Fact::Attribute(key.to_owned(), None))
    }

    /// The span's resource has the attribute with this value.
    pub fn with_resource(self, key: &str, value: &str) -> Self {
        self.and(Fact::Resource(key.to_owned(), value.to_owned()))
    }

    /// The status of the span is an error, or is not an error.
    pub fn with_error(self, error: bool) -> Self {
        self.and(Fact::Error(error))
    }

    /// The span begins no earlier than `other` begins, and no later than `other` ends.
    pub fn begun_during(self, other: &Span) -> Self {
        self.and(Fact::BeginsDuring(Box::new(other.clone())))
    }

    /// The failure begins with this text, for a test that goes through several cases.
    pub fn at(mut self, case: impl fmt::Display) -> Self {
        self.case = Some(case.to_string());
        self
    }

    /// The one span that fulfils the expectation.
    ///
    /// # Panics
    /// If none does, or more than one.
    #[track_caller]
    pub fn find_in<'a>(&self, spans: &'a [Span]) -> &'a Span {
        self.check(spans).unwrap_or_else(|why| panic!("{why}"))
    }

    /// The span that fulfils the expectation, where it is the only span at all.
    ///
    /// # Panics
    /// If it is not the only one, or does not fulfil the expectation.
    #[track_caller]
    pub fn only_in<'a>(&self, spans: &'a [Span]) -> &'a Span {
        let found = self.find_in(spans);
        if spans.len() != 1 {
            let case = self.case.as_ref().map(|case| format!("{case}: "));
            panic!(
                "{}expected no span but one, and there are {}:\n{}",
                case.unwrap_or_default(),
                spans.len(),
                picture(spans)
            );
        }
        found
    }

    /// All spans that fulfil the expectation.
    pub fn all_in<'a>(&self, spans: &'a [Span]) -> Vec<&'a Span> {
        let fulfils = |span: &&Span| self.differences(span).is_empty();
        spans.iter().filter(fulfils).collect()
    }

    /// As [`SpanExpectation::find_in`], without the panic.
    ///
    /// # Errors
    /// The text of the failure.
    pub fn check<'a>(&self, spans: &'a [Span]) -> Result<&'a Span, String> {
        match self.all_in(spans).as_slice() {
            [span] => Ok(span),
            found => Err(self.failure(spans, found)),
        }
    }

    fn and(mut self, fact: Fact) -> Self {
        self.facts.push(fact);
        self
    }

    fn differences(&self, span: &Span) -> Vec<String> {
        let difference = |fact: &Fact| fact.difference(span);
        self.facts.iter().filter_map(difference).collect()
    }

    fn failure(&self, spans: &[Span], found: &[&Span]) -> String {
        let mut text = String::new();
        if let Some(case) = &self.case {
            text += &format!("{case}: ");
        }
        text += "expected one span that\n";
        for fact in &self.facts {
            text += &format!("    {fact}\n");
        }
        let nearest = spans.iter().min_by_key(|span| self.differences(span).len());
        match (found, nearest) {
            ([], None) => return text + "and there are no spans",
            ([], Some(nearest)) => {
                text += &format!(
                    "and of {} spans none is so; of the nearest, {} {:?},\n",
                    spans.len(),
                    nearest.span_id,
                    nearest.name
                );
                for difference in self.differences(nearest) {
                    text += &format!("    {difference}\n");
                }
            }
            (found, _) => {
                let ids: Vec<_> = found.iter().map(|span| span.span_id.as_str()).collect();
                text += &format!("and {} spans are so: {}\n", found.len(), ids.join(", "));
            }
        }
        text + &picture(spans)
    }
}

fn picture(spans: &[Span]) -> String {
    Terminal::default().render(spans)
}

/// A predicate: "is named …".
impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "is named {name:?}"),
            Self::Kind(kind) => write!(f, "is of kind {kind:?}"),
            Self::Service(service) => write!(f, "is of the service {service:?}"),
            Self::Trace(id) => write!(f, "is in the trace {id}"),
            Self::Parent(None) => write!(f, "has no parent"),
            Self::Parent(Some(id)) => write!(f, "is a child of {id}"),
            Self::Attribute(key, Some(value)) => write!(f, "has {key} = {value:?}"),
            Self::Attribute(key, None) => write!(f, "has no {key}"),
            Self::Resource(key, value) => write!(f, "has {key} = {value:?} in its resource"),
            Self::Error(true) => write!(f, "has an error as its status"),
            Self::Error(false) => write!(f, "has no error as its status"),
            Self::BeginsDuring(other) => write!(
                f,
                "begins during {} {:?}, {} to {} ns",
                other.span_id, other.name, other.start_unix_nanos, other.end_unix_nanos
            ),
        }
    }
}

impl Fact {
    /// What the span has instead; `None` if the fact is true of the span.
    fn difference(&self, span: &Span) -> Option<String> {
        let told = |differs: bool, text: String| differs.then_some(text);
        match self {
            Self::Name(name) => told(*name != span.name, format!("the name is {:?}", span.name)),
            Self::Kind(kind) => told(*kind != span.kind, format!("the kind is {:?}", span.kind)),
            Self::Service(service) => told(
                *service != span.service,
                format!("the service is {:?}", span.service),
            ),
            Self::Trace(id) => told(
                *id != span.trace_id,
                format!("the trace is {}", span.trace_id),
            ),
            Self::Parent(parent) => told(
                *parent != span.parent_span_id,
                match &span.parent_span_id {
                    Some(id) => format!("the parent is {id}"),
                    None => "there is no parent".to_owned(),
                },
            ),
            Self::Attribute(key, value) => {
                let has = span.attribute(key);
                told(value.as_deref() != has, instead(key, has))
            }
            Self::Resource(key, value) => {
                let has = span.resource.get(key).map(String::as_str);
                told(has != Some(value), instead(key, has))
            }
            Self::Error(error) => told(
                *error != span.status_error,
                format!("the status is an error: {}", span.status_error),
            ),
            Self::BeginsDuring(other) => {
                let begins = span.start_unix_nanos;
                let early = other.start_unix_nanos.saturating_sub(begins);
                let late = begins.saturating_sub(other.end_unix_nanos);
                match (early, late) {
                    (0, 0) => None,
                    (0, late) => Some(format!("the begin is {begins} ns, {late} ns too late")),
                    (early, _) => Some(format!("the begin is {begins} ns, {early} ns too early")),
                }
            }
        }
    }
}

fn instead(key: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!("{key} is {value:?}"),
        None => format!("there is no {key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn spans() -> Vec<Span> {
        let span = |id: &str, parent: &str, kind, from, to| Span {
            trace_id: TRACE.to_owned(),
            span_id: id.to_owned(),
            parent_span_id: Some(parent.to_owned()),
            name: "GET".to_owned(),
            service: "shop".to_owned(),
            kind,
            start_unix_nanos: from,
            end_unix_nanos: to,
            attributes: [("http.route".to_owned(), "/cart".to_owned())].into(),
            ..Span::default()
        };
        vec![
            span(
                "00000000000000a1",
                "00000000000000aa",
                SpanKind::Server,
                1_000,
                9_000,
            ),
            span(
                "00000000000000b2",
                "00000000000000a1",
                SpanKind::Client,
                900,
                8_000,
            ),
        ]
    }

    #[test]
    fn a_span_with_all_facts_is_found() {
        let spans = spans();
        let server = span()
            .named("GET")
            .of_kind(SpanKind::Server)
            .of_service("shop")
            .with("http.route", "/cart")
            .without("http.response.status_code")
            .with_error(false)
            .child_of_ids(TRACE, "00000000000000aa")
            .find_in(&spans);
        assert_eq!(
            span().child_of(server).find_in(&spans).span_id,
            spans[1].span_id
        );
        let chain = chain(&spans, TRACE, "00000000000000aa");
        assert_eq!(chain, spans.iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_failure_says_what_was_expected_and_how_the_nearest_span_differs() {
        let spans = spans();
        let why = span()
            .of_kind(SpanKind::Client)
            .child_of(&spans[0])
            .begun_during(&spans[0])
            .at("the second hop")
            .check(&spans)
            .unwrap_err();
        let expected = format!(
            "the second hop: expected one span that\n    is of kind Client\n    is in the trace {TRACE}\n    \
             is a child of 00000000000000a1\n    \
             begins during 00000000000000a1 \"GET\", 1000 to 9000 ns\n\
             and of 2 spans none is so; of the nearest, 00000000000000b2 \"GET\",\n    \
             the begin is 900 ns, 100 ns too early\n"
        );
        assert!(why.starts_with(&expected), "{why}");
        assert!(why.ends_with(&picture(&spans)), "{why}");
    }

    #[test]
    fn two_spans_and_none_are_failures_too() {
        let spans = spans();
        let why = span().named("GET").check(&spans).unwrap_err();
        assert!(
            why.contains("and 2 spans are so: 00000000000000a1, 00000000000000b2\n"),
            "{why}"
        );
        let why = span().root().check(&[]).unwrap_err();
        assert_eq!(
            why,
            "expected one span that\n    has no parent\nand there are no spans"
        );
    }

    #[test]
    #[should_panic(expected = "expected no span but one, and there are 2")]
    fn another_span_is_one_too_many() {
        span().of_kind(SpanKind::Server).only_in(&spans());
    }
}
