//! Extract, decide and inject under any configuration.

use meshtrace_headers::{Change, Edits, Headers, encode};
use meshtrace_pipeline::{Arena, MAX_EDITS};
use meshtrace_propagation::format::{Extracted, Format, Reading};
use meshtrace_propagation::{
    Field, IdGenerator, Outgoing, Peer, Propagation, SamplingState, Tally, TraceContext,
    TraceContextConfig,
};
use serde_json::{Map, Value, json};

use crate::formats;
use crate::lines::{self, Lines};

/// The first line chooses a configuration, the others are header lines.
///
/// The edits have room. No header that was read leaves malformed. The injected context has the
/// decision that was made. A second pass over the headers that left changes nothing.
pub fn filter(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n');
    let (choices, text) = data.split_at(end.unwrap_or(data.len()));
    let setup = Setup::choose(choices);
    let Ok(propagation) = Propagation::new(&setup.config()) else {
        return;
    };
    let sent = lines::of_fields(Field::ALL, text);

    let once = pass(&propagation, &sent);
    setup.assert_nothing_malformed_leaves(&once);
    setup.assert_injected_formats_say(&once);

    // A trace that was started here is started again in a second pass, or is read as the next
    // caller's.
    if setup.is_at_rest(&once) {
        let twice = pass(&propagation, &once.left);
        let [sent, once, twice] = [&sent, &once.left, &twice.left].map(lines::text);
        assert!(
            twice == once,
            "{}\n\n{sent}\n\n{once}\n\n{twice}",
            setup.json
        );
    }
}

/// A request with a context in every format goes through `propagation`.
pub(crate) fn serve(propagation: &Propagation) {
    let (t, s) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let line = |field: Field, value: String| (field.name().to_vec(), value.into_bytes());
    pass(
        propagation,
        &vec![
            line(Field::Traceparent, format!("00-{t}-{s}-01")),
            line(Field::Tracestate, "a=1".to_owned()),
            line(Field::B3, format!("{t}-{s}-1")),
            line(Field::XB3TraceId, t.to_owned()),
            line(Field::XB3SpanId, s.to_owned()),
            line(Field::UberTraceId, format!("{t}:{s}:0:1")),
            line(Field::OtTracerTraceId, t.to_owned()),
            line(Field::XDatadogTraceId, "1".to_owned()),
            line(Field::Sw8, "1".to_owned()),
        ],
    );
}

/// The result of one request.
struct Passed {
    /// The header lines that leave, by name.
    left: Lines,
    outgoing: Outgoing,
    /// The format that the context came in.
    format: Option<Format>,
    restarted: bool,
}

fn pass(propagation: &Propagation, sent: &Lines) -> Passed {
    let block = encode(sent);
    let headers = Headers::parse(&block).expect("a block that was just serialised");
    let mut tally = Tally::default();
    let ids = IdGenerator::from_seed([7; 32]);
    let arena = Arena::new();
    let mut edits = Edits::new_in(&arena, MAX_EDITS);
    let incoming = propagation.extract(headers, Peer::default(), &mut tally);
    let decision = propagation.decide(&incoming, &ids, &mut tally);
    let policy = propagation.policy_for(&headers, None);
    propagation.join_baggage(&incoming, policy, &arena, &mut edits, &mut tally);
    propagation.inject(
        &incoming,
        &decision.outgoing,
        policy,
        &mut edits,
        &mut tally,
    );
    assert!(!edits.overflowed(), "{edits:?}");

    let mut left = sent.clone();
    let families = edits.families();
    left.retain(|(name, _)| !families.iter().any(|prefix| name.starts_with(prefix)));
    for edit in edits.iter() {
        let before = left.clone();
        left.retain(|(name, _)| name != edit.name);
        if let Change::Replace(value) = &edit.change {
            left.push((edit.name.to_vec(), value.as_bytes().to_vec()));
        }
        assert_ne!(left, before, "an edit that changes nothing: {edit:?}");
    }
    // Only the names are sorted, because the order of repeated lines has a meaning.
    left.sort_by(|(one, _), (other, _)| one.cmp(other));
    Passed {
        left,
        outgoing: decision.outgoing,
        format: incoming.format(),
        restarted: decision.previous_trace_id.is_some(),
    }
}

/// A configuration, as JSON and as the values that the checks need.
struct Setup {
    json: Value,
    reading: Reading,
    narrow: bool,
    on_defer: bool,
    /// The formats that are read. A malformed header of theirs does not leave.
    read: Vec<Format>,
    inject: Inject,
    cleared: Vec<Field>,
    upstream: bool,
    at_rest: bool,
}

enum Inject {
    Formats(Vec<Format>),
    Preserve(Format),
}

/// Numbers from bytes. They are zero when no byte is left.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % limit
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    /// Different formats, in any order.
    fn formats(&mut self) -> Vec<Format> {
        let mut formats = Vec::new();
        for _ in 0..self.below(Format::ALL.len() + 1) {
            let format = Format::ALL[self.below(Format::ALL.len())];
            if !formats.contains(&format) {
                formats.push(format);
            }
        }
        formats
    }
}

fn names(formats: &[Format]) -> Value {
    formats.iter().map(|format| format.name()).collect()
}

impl Setup {
    fn choose(bytes: &[u8]) -> Self {
        let mut choices = Choices(bytes.iter());
        let mut json = Map::new();
        let mut set = |key: &str, value: Value| json.insert(key.to_owned(), value);

        let upstream = choices.flag();
        let mut read = Format::EXTRACTED_BY_DEFAULT.to_vec();
        let mut at_rest = true;
        if upstream {
            let tracer = Format::ALL[choices.below(Format::ALL.len())];
            set("placement", json!("upstream"));
            set("tracer", json!(tracer.name()));
            read.push(tracer);
        } else {
            if choices.flag() {
                read = choices.formats();
                set("extract", names(&read));
            }
            let incoming = [
                json!("continue"),
                json!("restart"),
                json!("ignore"),
                json!({"mode": "restart", "when": {"header_absent": "sw8"}}),
                json!({"mode": "ignore", "when": {"header_absent": "b3"}}),
            ];
            let mode = choices.below(incoming.len());
            at_rest = mode == 0;
            set("incoming", incoming[mode].clone());
            set("on_missing", json!(["pass", "generate"][choices.below(2)]));
            set("on_conflict", json!(["first", "restart"][choices.below(2)]));
        }
        let inject = match choices.below(3) {
            0 => Inject::Formats(vec![Format::Tracecontext, Format::B3Multi]),
            1 => {
                let default = Format::ALL[choices.below(Format::ALL.len())];
                set("inject", json!("preserve"));
                set("default_format", json!(default.name()));
                Inject::Preserve(default)
            }
            _ => {
                let formats = choices.formats();
                set("inject", names(&formats));
                Inject::Formats(formats)
            }
        };
        if upstream {
            match &inject {
                Inject::Formats(formats) => read.extend(formats),
                Inject::Preserve(default) => read.push(*default),
            }
        }
        let mut clear = Vec::new();
        let mut cleared = Vec::new();
        for _ in 0..choices.below(4) {
            let any = choices.below(Format::ALL.len() + Field::ALL.len());
            match Format::ALL.get(any) {
                Some(format) => {
                    clear.push(format.name().to_owned());
                    cleared.extend(format.fields());
                }
                None => {
                    let field = Field::ALL[any - Format::ALL.len()];
                    clear.push(String::from_utf8_lossy(field.name()).into_owned());
                    cleared.push(field);
                }
            }
        }
        set("clear", json!(clear));
        let (strict, narrow, on_defer) = (choices.flag(), choices.flag(), choices.flag());
        set("b3_strict", json!(strict));
        set("b3_trace_id_bits", json!(if narrow { 64 } else { 128 }));
        let decision = if on_defer { "sampled" } else { "unsampled" };
        set("on_defer", json!(decision));
        set("generate_sampled", json!(choices.flag()));
        set("random_flag", json!(choices.flag()));
        Self {
            json: Value::Object(json),
            reading: Reading { b3_strict: strict },
            narrow,
            on_defer,
            read,
            inject,
            cleared,
            upstream,
            at_rest,
        }
    }

    fn config(&self) -> TraceContextConfig {
        meshtrace_config::read(self.json.to_string().as_bytes())
            .expect("a configuration of known keys")
    }

    fn is_cleared(&self, format: Format) -> bool {
        let mut fields = format.fields().iter();
        fields.any(|field| self.cleared.contains(field))
    }

    fn is_at_rest(&self, once: &Passed) -> bool {
        // Half an id, and headers without those that are cleared, are read as another context.
        let whole = !self.narrow && self.read.iter().all(|format| !self.is_cleared(*format));
        self.at_rest && !once.restarted && whole
    }

    fn assert_nothing_malformed_leaves(&self, once: &Passed) {
        for format in self.read.iter().filter(|format| !self.is_cleared(**format)) {
            let extracted = formats::read(*format, &once.left, self.reading);
            assert!(
                extracted != Extracted::Malformed,
                "{format:?}: {}

{}",
                self.json,
                lines::text(&once.left)
            );
        }
    }

    fn assert_injected_formats_say(&self, once: &Passed) {
        let Outgoing::Context(outgoing) = &once.outgoing else {
            return;
        };
        let preserved;
        let injected = match &self.inject {
            Inject::Formats(formats) => formats,
            Inject::Preserve(default) => {
                preserved = vec![once.format.unwrap_or(*default)];
                &preserved
            }
        };
        for format in injected.iter().filter(|format| !self.is_cleared(**format)) {
            // Datadog has no form for an id whose right half is zero.
            if *format == Format::Datadog && outgoing.trace_id.low() == 0 {
                continue;
            }
            match formats::read(*format, &once.left, self.reading) {
                Extracted::Context(found) => self.assert_says(*format, &found, outgoing),
                other => panic!("{format:?}: {other:?}, {}", self.json),
            }
        }
    }

    fn assert_says(&self, format: Format, found: &TraceContext, outgoing: &TraceContext) {
        let is_b3 = matches!(format, Format::B3 | Format::B3Multi);
        let low = outgoing.trace_id.low();
        let halved = self.narrow && is_b3 && found.trace_id.high() == 0;
        let same_trace = found.trace_id == outgoing.trace_id
            || (halved && low != 0 && found.trace_id.low() == low);
        let decision = match outgoing.sampling.decision() {
            None if !format.can_defer() => Some(self.on_defer),
            decision => decision,
        };
        assert!(same_trace, "{format:?}: {found:?}, {outgoing:?}");
        assert_eq!(found.span_id, outgoing.span_id, "{format:?}");
        assert_eq!(found.sampling.decision(), decision, "{format:?}");
        if is_b3 || format == Format::Jaeger {
            let debug = |context: &TraceContext| context.sampling == SamplingState::Debug;
            assert_eq!(debug(found), debug(outgoing), "{format:?}");
        }
        if self.upstream || format != Format::Tracecontext {
            return;
        }
        assert_eq!(found.random, outgoing.random, "{format:?}");
    }
}
