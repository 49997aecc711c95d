//! Writing: the chosen candidate becomes the tracer's own headers.

use meshtrace_propagation::TraceContextConfig;

use super::Tracer;
use super::names::{
    B3, B3_MULTI, B3_PARENT, B3_SAMPLED, B3_SPAN_ID, B3_TRACE_ID, CLIENT_TRACE_ID, Format,
    TRACEPARENT, TRACESTATE, candidate, helper,
};
use super::reading::{Reading, b3_is_decision};
use crate::cel::{cel, choose, first, has, lacks, matches, value, when};
use crate::script::Script;

/// The characters of `tracestate`, with the white space around its members (section 3.3.1).
const PRINTABLE: &str = r"^[\t -~]*$";
/// The end of a `traceparent` of version 00 that is sampled.
const SAMPLED: &str = "[13579bdf]$";

/// Writes the mutations that let `tracer` continue what came in.
pub(super) fn write(config: &TraceContextConfig, tracer: Tracer, script: &mut Script) {
    let reading = Reading::new(config, tracer);
    // Headers of these names that a client sent have no meaning.
    for helper in helper::ALL {
        script.remove(*helper);
    }
    reading.write(script);
    let writing = Writing {
        reading: &reading,
        tracer,
    };
    if reading.reads(Format::B3Multi) {
        reading.write_b3_multi_decision(script);
    }
    writing.tracecontext(script);
    if tracer == Tracer::OpenTelemetry {
        writing.decision(script);
    }
    writing.b3(script);
    writing.b3_multi(script);
    for helper in helper::ALL {
        script.remove(*helper);
    }
}

struct Writing<'a> {
    reading: &'a Reading,
    tracer: Tracer,
}

impl Writing<'_> {
    /// Whether the configuration or the tracer reads `format`. Other formats are left unchanged.
    fn concerns(&self, format: Format) -> bool {
        self.reading.reads(format) || self.tracer.reads(format)
    }

    fn tracecontext(&self, script: &mut Script) {
        if !self.concerns(Format::Tracecontext) {
            return;
        }
        if self.reading.reads(Format::Tracecontext) {
            // `tracestate` is kept only with its own trace.
            let printable = when(matches(TRACESTATE, PRINTABLE), value(TRACESTATE));
            let state = self.if_same_trace(Format::Tracecontext, &format!("({printable})"));
            script.set(helper::TRACESTATE, cel(state));
        }
        if self.tracer == Tracer::OpenTelemetry {
            script.set(helper::TRACEPARENT, first(helper::CHOSEN));
        } else if self.reading.reads(Format::Tracecontext) {
            let own = value(helper::FROM_TRACECONTEXT);
            let parent = self.if_same_trace(Format::Tracecontext, &own);
            script.set(helper::TRACEPARENT, cel(parent));
        }
        script.remove(TRACEPARENT);
        script.remove(TRACESTATE);
        script.set(TRACEPARENT, first(helper::TRACEPARENT));
        script.set(TRACESTATE, first(helper::TRACESTATE));
    }

    /// The OpenTelemetry tracer has no input for a decision without ids. From Envoy 1.39 on it
    /// drops a sampled parent that the connection manager does not sample too.
    fn decision(&self, script: &mut Script) {
        let undecided = has(helper::CHOSEN);
        let sampled = when(matches(helper::CHOSEN, SAMPLED), "'sampled'");
        if !self.reading.reads_b3() {
            script.set_if_absent(
                CLIENT_TRACE_ID,
                cel(when(undecided, format!("({sampled})"))),
            );
            return;
        }
        // The parent is a span that no service reports, of a new trace that is not sampled. So the
        // trace starts here, and stays unsampled.
        let unsampled = format!(
            r"re.extract({}, r'^{hex}-{hex}-{hex}-{hex}-{hex}$', r'00-\1\2\3\4\5-\4\5-00')",
            value(helper::UNIQUE),
            hex = "([0-9a-f]+)",
        );
        script.set(helper::UNIQUE, "%UNIQUE_ID%");
        let client_trace_id = value(helper::UNIQUE);
        for (header, accept, continued, effect) in [
            (TRACEPARENT, false, "''", &unsampled),
            (CLIENT_TRACE_ID, true, &sampled, &client_trace_id),
        ] {
            let effect = when(self.reading.decides(accept), effect);
            script.set_if_absent(header, cel(choose(&undecided, continued, &effect)));
        }
    }

    fn b3(&self, script: &mut Script) {
        if !self.concerns(Format::B3) {
            return;
        }
        script.remove(B3);
        if self.reading.reads(Format::B3) {
            let mut decision = b3_is_decision();
            if self
                .reading
                .earlier(Format::B3)
                .any(|earlier| earlier == Format::B3Multi)
            {
                decision = format!("{decision} && {}", lacks(helper::B3_MULTI_DECISION));
            }
            let goes_on = self.goes_on(Format::B3, &decision, &self.reading.b3_for_tracer());
            script.set(B3, cel(when(has(helper::B3), goes_on)));
        }
    }

    fn b3_multi(&self, script: &mut Script) {
        if !self.concerns(Format::B3Multi) {
            return;
        }
        for (header, _) in B3_MULTI {
            script.remove(header);
        }
        if self.reading.reads(Format::B3Multi) {
            let decision = has(helper::B3_MULTI_DECISION);
            let goes_on = self.goes_on(Format::B3Multi, &decision, "'1'");
            let arrived = format!("{} || {decision}", has(helper::TRACE_ID));
            script.set(helper::KEEPS_B3_MULTI, cel(when(arrived, goes_on)));
            for (header, copy) in B3_MULTI {
                let mut kept = has(helper::KEEPS_B3_MULTI);
                let mut own = self.reading.item(copy);
                match header {
                    // Without it, a Zipkin tracer decides by its sampling settings.
                    B3_SAMPLED if self.tracer != Tracer::OpenTelemetry => {
                        own = choose(
                            &self.reading.b3_multi_is_debug(),
                            "'1'",
                            &self.reading.b3_multi_sampled(),
                        );
                        own = format!("({own})");
                    }
                    B3_SAMPLED => {
                        kept = format!("{kept} && {}", self.reading.b3_multi_sampled_counts());
                    }
                    B3_PARENT => kept = format!("{kept} && {}", self.reading.b3_multi_has_parent()),
                    _ => {}
                }
                script.set(header, cel(when(kept, own)));
            }
        }
        if self.tracer == Tracer::ZipkinB3 && self.reading.reads(Format::Tracecontext) {
            self.b3_multi_from_tracecontext(script);
        }
    }

    /// Writes several headers, because Envoy 1.36 to 1.39 leave an old `b3` beside those that they
    /// write.
    fn b3_multi_from_tracecontext(&self, script: &mut Script) {
        let chosen = self.is_chosen(Format::Tracecontext);
        let context = value(helper::CHOSEN);
        let part = |pattern: &str| format!(r"re.extract({context}, r'{pattern}', r'\1')");
        let sampled = format!("({} ? '1' : '0')", matches(helper::CHOSEN, SAMPLED));
        for (header, value) in [
            (B3_TRACE_ID, part("^00-([0-9a-f]+)")),
            (B3_SPAN_ID, part("^00-[0-9a-f]+-([0-9a-f]+)")),
            (B3_SAMPLED, sampled),
        ] {
            script.set(header, cel(when(&chosen, value)));
        }
    }

    /// `kept` where the headers of a B3 format leave as they came, in CEL.
    fn goes_on(&self, format: Format, decision: &str, kept: &str) -> String {
        let beside_context = match self.tracer {
            // Beside the tracer's own format they are no input for the tracer, only headers for the
            // next hop.
            Tracer::OpenTelemetry => self.if_same_trace(format, kept),
            Tracer::ZipkinB3 | Tracer::ZipkinB3WithW3c => when(self.is_chosen(format), kept),
        };
        let alone = when(decision, kept);
        format!(
            "({})",
            choose(&has(helper::CHOSEN), &beside_context, &alone)
        )
    }

    /// Whether the context of `format` is continued, in CEL.
    fn is_chosen(&self, format: Format) -> String {
        let earlier = self.reading.earlier(format);
        let mut conditions = vec![has(candidate(format))];
        conditions.extend(earlier.map(|earlier| lacks(candidate(earlier))));
        conditions.join(" && ")
    }

    /// `kept` where `format` has a context of the trace that is continued, in CEL.
    fn if_same_trace(&self, format: Format, kept: &str) -> String {
        let own = candidate(format);
        let same = format!("{}.startsWith({})", value(own), value(helper::CHOSEN_TRACE));
        choose(&has(own), &when(same, kept), "''")
    }
}
