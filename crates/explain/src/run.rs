//! One run of a filter.

use std::collections::BTreeSet;

use meshtrace_config::{ConfigError, RequestHeaders};
use meshtrace_counters::Counter as _;
use meshtrace_envoy::filter_state;
use meshtrace_headers::{Headers, encode};
use meshtrace_otlp::conventions;
use meshtrace_pipeline::{
    ARENA_BYTES, Arena, Callback, Composition, LoggedRequest, MeshTracing, Outcome, Proxy, Request,
    Stage,
};
use meshtrace_propagation::format::Format;
use meshtrace_propagation::{Counter, IdGenerator, Peer, Tally, only_metric};

use crate::explanation::{
    Attribute, Explanation, FilterState, MovedCounter, ReadFormat, Rule, Section, Span,
};
use crate::host::{AtEnd, FirstRequest};
use crate::left::{self, Lines, shown};
use crate::request::{SentRequest, dotted};
use crate::sources::{self, Kept};

/// The seed of the ids that are shown.
const SEED: [u8; 32] = *b"meshtrace explain: a fixed seed.";
/// The seed of a second run. An id that differs between the runs was made by the filter.
const OTHER_SEED: [u8; 32] = *b"meshtrace explain: another seed.";
/// The digits of the shortest id.
const ID_DIGITS: usize = 16;

/// Runs the filter `C` with the configuration `json` over `sent`.
///
/// # Errors
/// When the filter refuses the configuration.
pub fn explain<C: Composition>(
    json: &[u8],
    sent: &SentRequest,
) -> Result<Explanation, ConfigError> {
    explained(json, |json, seed| {
        run::<C>(json, sent, seed, |_, _, _| None)
    })
}

/// Runs `mesh_tracing` with the configuration `json` over `sent`.
///
/// # Errors
/// When the filter refuses the configuration.
pub fn explain_mesh_tracing(json: &[u8], sent: &SentRequest) -> Result<Explanation, ConfigError> {
    explained(json, |json, seed| {
        run::<MeshTracing>(json, sent, seed, open_span)
    })
}

fn explained(
    json: &[u8],
    run: impl Fn(&[u8], [u8; 32]) -> Result<Explanation, ConfigError>,
) -> Result<Explanation, ConfigError> {
    let (mut one, other) = (run(json, SEED)?, run(json, OTHER_SEED)?);
    let others = ids(&other);
    one.generated = ids(&one).difference(&others).cloned().collect();
    let again = |kept: Kept| {
        let json = sources::shown(one.filter, json, kept)?;
        run(&json, SEED).ok()
    };
    let (finals, raw) = (again(Kept::All), again(Kept::Source));
    sources::add(&mut one, finals, raw);
    Ok(one)
}

/// The texts of an explanation that look like an id: at least [`ID_DIGITS`] hexadecimal digits.
fn ids(explanation: &Explanation) -> BTreeSet<String> {
    let headers = explanation.headers.iter().flat_map(|header| &header.after);
    let states = explanation.filter_state.iter().map(|state| &state.value);
    let span = explanation.span.iter();
    let span = span.flat_map(|span| [&span.trace_id, &span.span_id]);
    let words = headers
        .chain(states)
        .chain(span)
        .flat_map(|text| text.split(|character: char| !character.is_ascii_hexdigit()));
    let ids = words.filter(|word| word.len() >= ID_DIGITS);
    ids.map(str::to_owned).collect()
}

/// A function that returns the span of a filter. Its id generator is the same as the filter's own.
type OpenSpan<C> = fn(&C, &Request<'_>, &IdGenerator) -> Option<(Span, Vec<Attribute>)>;

fn run<C: Composition>(
    json: &[u8],
    sent: &SentRequest,
    seed: [u8; 32],
    open_span: OpenSpan<C>,
) -> Result<Explanation, ConfigError> {
    let environment = |name: &str| {
        let value = sent.environment.get(name)?;
        Some(value.clone().into_bytes())
    };
    let filter = C::from_json(json, &Proxy::with_environment(&environment))?;
    let lines: Lines = sent
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
        .collect();
    let block = encode(&lines);
    let headers = Headers::parse(&block).unwrap_or_default();

    let needs = filter.needs();
    let properties: Vec<_> = needs
        .request_properties
        .iter()
        .map(|path| sent.property(path))
        .collect();
    let unknown = needs.request_properties.iter().zip(&properties);
    let unknown = unknown.filter(|(_, value)| value.is_none());
    let unknown_properties = unknown.map(|(path, _)| dotted(path)).collect();

    let arena = Arena::with_capacity(ARENA_BYTES);
    arena.set_allocation_limit(Some(arena.allocated_bytes()));
    let request = Request {
        headers,
        peer: Peer {
            address: sent.peer.as_deref().map(str::as_bytes),
            direction: sent.direction,
            own: None,
        },
        cluster: sent.cluster.as_deref().map(str::as_bytes),
        properties: &properties,
        clock: &FirstRequest,
        arena: &arena,
        shared: &FirstRequest,
    };
    let mut outcome = Outcome::new_in(&arena);
    let mut state = C::RequestState::default();
    filter.on_request(
        &request,
        &IdGenerator::from_seed(seed),
        &mut state,
        &mut outcome,
    );

    let left = left::apply(&lines, &outcome.headers, filter.by_filter_state());
    let block = encode(&left);
    let told = Headers::parse(&block).and_then(left::decision);
    let names = filter.counters();
    let rule = outcome.configured.first().and_then(|at| names.get(*at));
    let rule = rule.and_then(|name| rule_of(name));
    let (span, of_span) = open_span(&filter, &request, &IdGenerator::from_seed(seed)).unzip();
    let mut filter_state = states(&outcome);
    let mut moved = counters::<C>(&outcome, &names, sent);

    // The span of a tracer ends with the response, which is not known here.
    let ends_here = C::CALLBACKS.contains(&Callback::Log) && span.is_none();
    if ends_here {
        let (arena, ids) = (Arena::new(), IdGenerator::from_seed(seed));
        let lookup = AtEnd {
            block: &block,
            sent,
        };
        let mut outcome = Outcome::new_in(&arena);
        let logged = LoggedRequest {
            request_headers: Headers::parse(&block).unwrap_or_default(),
            lookup: &lookup,
            ids: &ids,
            arena: &arena,
            shared: &FirstRequest,
        };
        filter.on_log(&logged, &mut state, &mut outcome);
        let later = states(&outcome);
        filter_state.retain(|state| !later.iter().any(|later| later.key == state.key));
        filter_state.extend(later);
        moved.extend(counters::<C>(&outcome, &names, sent));
    }
    Ok(Explanation {
        filter: C::NAME,
        cautions: filter.cautions(),
        read: read_formats(outcome.tallies.propagation, headers),
        sampled: sampled(span.as_ref(), told, rule.as_ref()),
        attributes: attributes(&filter_state, of_span.unwrap_or_default()),
        left_out: Vec::new(),
        headers: left::changes(&lines, &left),
        headers_by_filter_state: outcome.request_headers == RequestHeaders::FilterState,
        filter_state,
        span,
        counters: moved,
        has_rules: !names.is_empty(),
        ends_without_tracer: ends_here,
        generated: Vec::new(),
        unknown_properties,
        continues_with_response: needs.response_headers || !needs.response_properties.is_empty(),
        left: left
            .into_iter()
            .map(|(name, value)| (name, shown(&value)))
            .collect(),
        rule,
    })
}

/// The sampling decision. It is that of the span, else that in the headers that leave, else that
/// which a rule sets for the proxy's own tracer.
fn sampled(span: Option<&Span>, told: Option<bool>, rule: Option<&Rule>) -> Option<bool> {
    let of_rule = || match rule?.says.as_str() {
        "sampled" => Some(true),
        "dropped" => Some(false),
        _ => None,
    };
    span.map(|span| span.sampled).or(told).or_else(of_rule)
}

/// The rule in the name of a counter: `…rule.NAME.SAYS` or `…default.SAYS`.
fn rule_of(counter: &str) -> Option<Rule> {
    let (rest, says) = counter.rsplit_once('.')?;
    let (_, name) = rest.rsplit_once('.')?;
    Some(Rule {
        name: name.to_owned(),
        says: says.to_owned(),
    })
}

fn read_formats(tally: Tally, headers: Headers<'_>) -> Vec<ReadFormat> {
    let read = |format: &Format| {
        let chosen = tally.has(Counter::extracted(*format));
        let malformed = tally.has(Counter::malformed(*format));
        let fields = format.fields().iter();
        let lines = fields.flat_map(|field| {
            let name = shown(field.name());
            let lines = headers.lines(field.name());
            lines.map(move |value| (name.clone(), shown(value)))
        });
        (chosen || malformed).then(|| ReadFormat {
            format: format.name(),
            headers: lines.collect(),
            chosen,
            malformed,
        })
    };
    Format::ALL.iter().filter_map(read).collect()
}

fn states(outcome: &Outcome<'_>) -> Vec<FilterState> {
    let state = |section: Section, key: &[u8], value: &[u8]| FilterState {
        section,
        key: format!("{}{}", filter_state::WASM_PREFIX, shown(key)),
        value: shown(value),
    };
    let properties = outcome.properties.iter().map(|property| {
        let section = section_of_state(property.key);
        state(section, property.key, property.value)
    });
    let is_written = outcome.request_headers == RequestHeaders::FilterState;
    let written = outcome.headers.written().filter(|_| is_written);
    let written = written.map(|(name, value)| state(Section::Inject, name, value));
    properties.chain(written).collect()
}

fn section_of_state(key: &[u8]) -> Section {
    let is = |known: &str| known.as_bytes() == key;
    if is(filter_state::PREVIOUS_TRACE_ID) {
        Section::Extract
    } else if is(filter_state::SAMPLING_DECISION) {
        Section::Sample
    } else if filter_state::ALL.iter().any(|known| is(known)) {
        Section::Ids
    } else {
        Section::Gather
    }
}

/// The attributes that leave as filter state, and those that are only on the span.
fn attributes(states: &[FilterState], of_span: Vec<Attribute>) -> Vec<Attribute> {
    let states = states
        .iter()
        .filter(|state| state.section == Section::Gather);
    let mut attributes: Vec<_> = states
        .filter_map(|state| {
            let key = state.key.strip_prefix(filter_state::WASM_PREFIX)?;
            Some(Attribute::new(key, &state.value))
        })
        .collect();
    for attribute in of_span {
        if !attributes.iter().any(|known| known.key == attribute.key) {
            attributes.push(attribute);
        }
    }
    attributes
}

fn counters<C: Composition>(
    outcome: &Outcome<'_>,
    configured: &[String],
    sent: &SentRequest,
) -> Vec<MovedCounter> {
    let mut moved = Vec::new();
    for stage in C::STAGES {
        let bits = outcome.tallies.of(*stage);
        let known = stage.metrics().iter().zip(stage.descriptions());
        for (index, (name, description)) in known.enumerate() {
            if bits >> index & 1 == 1 {
                moved.push(MovedCounter {
                    section: section_of_counter(*stage, index),
                    name: (*name).to_owned(),
                    meaning: description.trim().replace("  ", " "),
                });
            }
        }
    }
    for name in outcome
        .configured
        .iter()
        .filter_map(|at| configured.get(*at))
    {
        moved.push(MovedCounter {
            section: Section::Sample,
            name: name.clone(),
            meaning: "Requests for which this rule, or the default, decided so.".to_owned(),
        });
    }
    if let Some(format) = outcome.tallies.propagation.only() {
        moved.push(MovedCounter {
            section: Section::Extract,
            name: only_metric(format, sent.direction),
            meaning: format!("A context came in {} alone.", format.shown()),
        });
    }
    moved
}

fn section_of_counter(stage: Stage, index: usize) -> Section {
    let injects = [
        Counter::BaggageJoined,
        Counter::BaggageMalformed,
        Counter::BaggageFull,
        Counter::EditsDropped,
    ];
    match stage {
        Stage::Propagation if injects.iter().any(|counter| counter.index() == index) => {
            Section::Inject
        }
        Stage::Propagation => Section::Extract,
        Stage::Sampling => Section::Sample,
        Stage::Attributes => Section::Gather,
        Stage::AccessLog => Section::Ids,
        Stage::Report => Section::Report,
    }
}

/// The span of a request, and its attributes.
fn open_span(
    filter: &MeshTracing,
    request: &Request<'_>,
    ids: &IdGenerator,
) -> Option<(Span, Vec<Attribute>)> {
    // Each has its own memory, because the filter has used the request's.
    let (arena, of_attributes) = (Arena::new(), Arena::new());
    let request = Request {
        arena: &arena,
        ..*request
    };
    let mut outcome = Outcome::new_in(&arena);
    let (start, _) = filter.start_span(&request, ids, &mut outcome)?;
    let template = filter.template(start.chosen(), &request.headers);
    let name = conventions::Request::scan(&request.headers).name(template);
    let tally = &mut Default::default();
    let gathered = filter.gather(request.headers, &of_attributes, tally);
    let attributes = gathered
        .iter()
        .map(|attribute| Attribute::new(attribute.key, attribute.value));
    let span = Span {
        name: shown(name.as_bytes()),
        trace_id: shown(&start.trace_id().to_hex()),
        span_id: shown(&start.span_id().to_hex()),
        parent_span_id: start.parent().map(|parent| shown(&parent.to_hex())),
        sampled: start.is_sampled(),
        never: start.is_never(),
        tracestate: shown(start.tracestate()),
    };
    Some((span, attributes.collect()))
}
