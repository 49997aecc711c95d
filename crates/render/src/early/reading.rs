//! Reading: the headers of each format become a `traceparent` of version 00 in a helper header.
//! Headers that are not valid become no helper header.

use meshtrace_propagation::{OnDefer, OnRepeated, TraceContextConfig};

use super::Tracer;
use super::names::{
    B3, B3_MULTI, B3_SAMPLED, B3_SPAN_ID, B3_TRACE_ID, Format, TRACEPARENT, candidate, helper,
    readable,
};
use crate::cel::{
    cel, choose, digits, first, first_bytes, has, is_one_of, lacks, matches, value, when, zeros,
};
use crate::script::Script;

const LOWER: &str = "[0-9a-f]";
const ANY_CASE: &str = "[0-9a-fA-F]";

/// How the formats are read.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// The formats, in order of precedence.
    pub(super) extract: Vec<Format>,
    tracer: Tracer,
    pub(super) strict: bool,
    on_repeated: OnRepeated,
    /// The flags of a context that leaves the decision open.
    deferred: &'static str,
    /// The pattern of a digit of a B3 id. CEL cannot convert a letter to lower case, so upper case
    /// is accepted only before a tracer that can.
    pub(super) b3_digit: &'static str,
}

impl Reading {
    pub(super) fn new(config: &TraceContextConfig, tracer: Tracer) -> Self {
        let lenient = !config.b3_strict && tracer != Tracer::OpenTelemetry;
        Self {
            extract: readable(config.extract.as_deref()),
            tracer,
            strict: config.b3_strict,
            on_repeated: config.on_repeated.unwrap_or_default(),
            deferred: match config.on_defer {
                OnDefer::Unsampled => "00",
                OnDefer::Sampled => "01",
            },
            b3_digit: if lenient { ANY_CASE } else { LOWER },
        }
    }

    /// Whether several values of one header may count as one.
    pub(super) fn joins(&self) -> bool {
        self.on_repeated == OnRepeated::SameTrace
    }

    pub(super) fn any_case(&self) -> bool {
        self.b3_digit == ANY_CASE
    }

    pub(super) fn reads(&self, format: Format) -> bool {
        self.extract.contains(&format)
    }

    pub(super) fn reads_b3(&self) -> bool {
        self.reads(Format::B3) || self.reads(Format::B3Multi)
    }

    /// Makes the candidates of all formats, and chooses one of them.
    pub(super) fn write(&self, script: &mut Script) {
        for format in &self.extract {
            match format {
                Format::Tracecontext => self.tracecontext(script),
                Format::B3 => self.b3(script),
                Format::B3Multi => self.b3_multi(script),
            }
        }
        for format in &self.extract {
            script.set_if_absent(helper::CHOSEN, first(candidate(*format)));
        }
        script.set(helper::CHOSEN_TRACE, first_bytes(helper::CHOSEN, 35));
    }

    /// W3C Trace Context, sections 3.2.2 and 3.2.4.
    ///
    /// Repeated lines are joined by a comma, which no field may contain. The tail of a later version
    /// may contain a comma, which therefore counts as a repetition.
    fn tracecontext(&self, script: &mut Script) {
        self.trim_traceparent(script);
        let text = value(TRACEPARENT);
        let byte = digits(LOWER, 2);
        let shape = format!("-{LOWER}+-{}-{byte}", digits(LOWER, 16));
        let version_00 = format!(
            "size({text}) == 55 && {} && !{}",
            matches(TRACEPARENT, &format!("^00{shape}$")),
            matches(TRACEPARENT, "-0+-"),
        );
        let mut read = when(version_00, &text);
        if self.joins() {
            let several = format!("{text}.contains(',')");
            // The first 35 bytes are the version and the trace id. They become a part of a pattern
            // that all values must match.
            let arrived = format!("{} && {several}", has(TRACEPARENT));
            script.set(helper::SEVERAL, cel(when(arrived, "'1'")));
            let same_trace = format!(
                r"^({}-{}-{byte}[ \t]*(,[ \t,]*|$))+$",
                first_bytes(TRACEPARENT, 35),
                digits(LOWER, 16),
            );
            script.set_if_present(helper::SEVERAL, same_trace);
            script.set(helper::FIRST, first_bytes(TRACEPARENT, 55));
            let one_trace = format!(
                "{} && {text}.matches({}) && !{}",
                matches(helper::FIRST, &format!("^00{shape}$")),
                value(helper::SEVERAL),
                matches(TRACEPARENT, "-0+-"),
            );
            read = choose(&several, &when(one_trace, value(helper::FIRST)), &read);
        }

        let known = value(helper::KNOWN);
        script.set(helper::KNOWN, first_bytes(TRACEPARENT, 56));
        let later_version = format!(
            "!{text}.startsWith('ff') && !{text}.contains(',') && \
             (size({known}) == 55 ? {} : size({known}) == 56 && {}) && !{}",
            matches(helper::KNOWN, &format!("^{byte}{shape}$")),
            matches(helper::KNOWN, &format!("^{byte}{shape}-$")),
            matches(helper::KNOWN, &format!("^..-0+-|-{}-", zeros(16))),
        );
        // Of the flags of a later version, a tracer of version 00 knows only the sampled bit.
        let rewritten = format!(
            r"re.extract({known}, r'^{LOWER}+(-{LOWER}+-{LOWER}+-)', {} ? r'00\101' : r'00\100')",
            matches(helper::KNOWN, "[13579bdf]-?$"),
        );

        let read = choose(
            &format!("{text}.startsWith('00')"),
            &read,
            &when(later_version, rewritten),
        );
        script.set(
            helper::FROM_TRACECONTEXT,
            cel(when(has(TRACEPARENT), format!("({read})"))),
        );
    }

    /// B3, "Single Header": `{TraceId}-{SpanId}-{SamplingState}-{ParentSpanId}`.
    fn b3(&self, script: &mut Script) {
        script.set(helper::B3, first(B3));
        self.cut_b3(script);
        for (width, prefix, made) in [
            (32, "00-", helper::FROM_B3),
            (16, "00-0000000000000000", helper::NARROW),
        ] {
            let flags = match width {
                32 => self.b3_flags(width),
                _ => format!("({})", when(lacks(helper::FROM_B3), self.b3_flags(width))),
            };
            let read = self.if_wanted(Format::B3, helper::B3, &flags);
            script.set(made, cel(read));
            let ids = first_bytes(helper::B3, width + 17);
            script.set_if_present(made, format!("{prefix}{ids}-{}", first(made)));
        }
        script.set_if_absent(helper::FROM_B3, first(helper::NARROW));
        script.remove(helper::NARROW);
    }

    /// `read` where the request has `arrived` and the candidate of `format` matters, in CEL.
    fn if_wanted(&self, format: Format, arrived: &str, read: &str) -> String {
        // Only the next hop needs to know whether B3 names the same trace as the chosen context.
        let earlier: Vec<_> = self
            .earlier(format)
            .map(|format| has(candidate(format)))
            .collect();
        match (self.tracer, earlier.as_slice()) {
            (Tracer::OpenTelemetry, _) | (_, []) => when(has(arrived), read),
            _ => choose(&earlier.join(" || "), "''", &when(has(arrived), read)),
        }
    }

    /// The formats that take precedence over `format`.
    pub(super) fn earlier(&self, format: Format) -> impl Iterator<Item = Format> {
        let formats = self.extract.iter().copied();
        formats.take_while(move |earlier| *earlier != format)
    }

    /// The flags for W3C of a well-formed `b3` with a trace id of `width` digits; otherwise empty.
    ///
    /// The number of bytes fixes the length of the trace id. The pattern fixes everything after it.
    fn b3_flags(&self, width: usize) -> String {
        let b3 = value(helper::B3);
        let digit = self.b3_digit;
        let id = digits(digit, 16);
        let parent = format!("-{id}");
        let shaped = |rest: &str, flags: &str| {
            // A parent of zeros counts as no parent, and is no reason to refuse the header.
            let before = match rest.ends_with(&parent) {
                true => format!("^{digit}+"),
                false => String::new(),
            };
            let zero = format!("^0+-|{before}-{}", zeros(16));
            let shape = matches(helper::B3, &format!("^{digit}+-{id}{rest}$"));
            let nonzero = format!("!{}", matches(helper::B3, &zero));
            format!("({})", when(format!("{shape} && {nonzero}"), flags))
        };

        let decided = format!("({b3}.endsWith('-0') ? '00' : '01')");
        let decided_before_parent = format!("({b3}.contains('-0-') ? '00' : '01')");
        let deferred = format!("'{}'", self.deferred);
        let ids = width + 17;
        let mut shapes = vec![
            (ids + 2, shaped("-[01d]", &decided)),
            (
                ids + 19,
                shaped(&format!("-[01d]{parent}"), &decided_before_parent),
            ),
            (ids, shaped("", &deferred)),
        ];
        // The grammar has no parent without a state, but old tracers send it.
        if !self.strict {
            shapes.push((ids + 17, shaped(&parent, &deferred)));
        }
        let choices = shapes
            .into_iter()
            .rev()
            .fold("''".to_owned(), |otherwise, (size, shape)| {
                format!("size({b3}) == {size} ? {shape} : {otherwise}")
            });
        format!("({choices})")
    }

    /// The value of `b3`, in CEL. A parent without a state is left out, because the Zipkin tracer
    /// refuses it.
    pub(super) fn b3_for_tracer(&self) -> String {
        let b3 = value(helper::B3);
        let size = format!("size({b3})");
        if self.strict || self.tracer == Tracer::OpenTelemetry {
            return b3;
        }
        let ids = format!(r"re.extract({b3}, r'^({0}+-{0}+)', r'\1')", self.b3_digit);
        format!(
            "({})",
            choose(&format!("{size} == 66 || {size} == 50"), &ids, &b3)
        )
    }

    /// B3, "Multiple Headers".
    fn b3_multi(&self, script: &mut Script) {
        for (header, copy) in B3_MULTI {
            script.set(copy, first(header));
        }
        self.cut_b3_multi(script);
        let made = helper::FROM_B3_MULTI;
        let flags = self.b3_multi_flags();
        let read = self.if_wanted(Format::B3Multi, helper::TRACE_ID, &flags);
        script.set(made, cel(read));
        let width = format!("size({}) == 16", value(helper::TRACE_ID));
        let prefix = format!("({width} ? '00-0000000000000000' : '00-')");
        script.set_if_present(
            made,
            format!(
                "{}{}-{}-{}",
                cel(when(has(made), prefix)),
                first(helper::TRACE_ID),
                first(helper::SPAN_ID),
                first(made)
            ),
        );
    }

    fn b3_multi_flags(&self) -> String {
        let id = digits(self.b3_digit, 16);
        let mut conditions = vec![
            matches(helper::TRACE_ID, &format!("^({id})?{id}$")),
            matches(helper::SPAN_ID, &format!("^{id}$")),
            format!("!{}", matches(helper::TRACE_ID, "^0+$")),
            format!("{} != '{}'", value(helper::SPAN_ID), zeros(16)),
        ];
        if self.strict {
            // A parent of zeros counts as no parent, and is no reason to refuse the headers.
            let (absent, shape) = (lacks(helper::PARENT), self.all_are(helper::PARENT, &id));
            conditions.push(format!("({absent} || {shape})"));
        }
        if let Some(superseded) = self.superseded() {
            conditions.push(format!("({} || !({superseded}))", has(helper::FROM_B3)));
        }

        let deferred = format!("'{}'", self.deferred);
        let undecided = match self.strict {
            true => format!("({} ? '' : {deferred})", self.has_sampled()),
            false => deferred,
        };
        let flags = self.decision("'00'", "'01'", &undecided);
        format!("({})", when(conditions.join(" && "), flags))
    }

    /// Whether `x-b3-parentspanid` is a span id, in CEL.
    pub(super) fn b3_multi_has_parent(&self) -> String {
        let id = digits(self.b3_digit, 16);
        let shape = self.all_are(helper::PARENT, &id);
        format!("{shape} && !{}", self.first_is(helper::PARENT, &zeros(16)))
    }

    /// Writes the decision of `x-b3-*` without ids into its helper, where no context is continued.
    ///
    /// A context with only some of its ids is not read as a decision, even if it has a readable
    /// one.
    pub(super) fn write_b3_multi_decision(&self, script: &mut Script) {
        let mut conditions = vec![lacks(helper::CHOSEN), lacks(B3_TRACE_ID), lacks(B3_SPAN_ID)];
        conditions.extend(
            self.superseded()
                .map(|superseded| format!("!({superseded})")),
        );
        let decision = when(conditions.join(" && "), self.decision("'0'", "'1'", "''"));
        let arrived = format!("{} || {}", has(helper::SAMPLED), has(helper::FLAGS));
        script.set(
            helper::B3_MULTI_DECISION,
            cel(when(arrived, format!("({decision})"))),
        );
    }

    /// B3: "the single header takes precedence". So `x-b3-*` do not complete what `b3` has.
    fn superseded(&self) -> Option<String> {
        let place = |format| self.extract.iter().position(|known| *known == format);
        let single = place(Format::B3)?;
        if place(Format::B3Multi)? < single {
            return None;
        }
        Some(match self.strict {
            true => has(B3),
            false => format!("{} && {}", has(helper::B3), b3_is_decision()),
        })
    }

    /// Whether the first decision without ids is `accept`, in CEL.
    pub(super) fn decides(&self, accept: bool) -> String {
        let decisions = self.extract.iter().rev();
        decisions.fold("false".to_owned(), |otherwise, format| match format {
            Format::Tracecontext => otherwise,
            Format::B3 => {
                let these: &[&str] = if accept { &["1", "d"] } else { &["0"] };
                let arrived = format!("{} && {}", has(helper::B3), b3_is_decision());
                choose(&arrived, &is_one_of(helper::B3, these), &otherwise)
            }
            Format::B3Multi => {
                let this = if accept { "1" } else { "0" };
                let decision = helper::B3_MULTI_DECISION;
                choose(&has(decision), &is_one_of(decision, &[this]), &otherwise)
            }
        })
    }

    /// Whether `x-b3-sampled` is a decision that debug does not overrule, in CEL.
    ///
    /// Debug "implies an accept decision". But the Zipkin tracer reads `x-b3-sampled` first, and
    /// takes a value that it does not know for a denial.
    pub(super) fn b3_multi_sampled_counts(&self) -> String {
        let known = self.first_is(helper::SAMPLED, "[01]|true|false");
        format!(
            "{} && {known} && !({})",
            has(helper::SAMPLED),
            self.b3_multi_is_debug()
        )
    }

    /// `x-b3-sampled` where its value is known, in CEL.
    pub(super) fn b3_multi_sampled(&self) -> String {
        when(self.b3_multi_sampled_counts(), self.item(helper::SAMPLED))
    }

    pub(super) fn b3_multi_is_debug(&self) -> String {
        format!(
            "{} && {}",
            has(helper::FLAGS),
            self.first_is(helper::FLAGS, "1")
        )
    }

    /// Whether `x-b3-sampled` has a value, in CEL.
    fn has_sampled(&self) -> String {
        match self.joins() {
            true => format!(
                r"{} && {}",
                has(helper::SAMPLED),
                matches(helper::SAMPLED, r"[^ \t,]")
            ),
            false => has(B3_SAMPLED),
        }
    }

    /// The decision of `x-b3-flags` and `x-b3-sampled`, in CEL. "Debug implies an accept decision".
    /// Other values of the flags have no meaning.
    fn decision(&self, deny: &str, accept: &str, undecided: &str) -> String {
        let sampled = choose(
            &self.first_is(helper::SAMPLED, "1|true"),
            accept,
            &choose(&self.first_is(helper::SAMPLED, "0|false"), deny, undecided),
        );
        let sampled = choose(&has(helper::SAMPLED), &sampled, undecided);
        format!("({})", choose(&self.b3_multi_is_debug(), accept, &sampled))
    }
}

/// Whether `b3` is a decision without ids, in CEL.
pub(super) fn b3_is_decision() -> String {
    matches(helper::B3, "^[01d]$")
}
