//! Lists the headers that must change so that every format has the same context.

use meshtrace_headers::{Arena, Edits, Value, field_value, join};

use crate::config::{IncomingMode, Placement};
use crate::destination::DestinationPolicy;
use crate::extract::Incoming;
use crate::field::FieldSet;
use crate::format::{Extracted, Format, FormatSet};
use crate::propagation::Propagation;
use crate::vendor::{Family, families};
use crate::{Arrived, Counter, Field, Outgoing, Tally, TraceContext};

impl Propagation {
    /// Writes `outgoing` in the formats that `policy` injects. Another format that arrived and was
    /// read is rewritten where its content differs. A header that is right already is not changed.
    /// Returns the headers that carry the context to the next hop.
    #[inline(never)]
    pub fn inject<'a>(
        &'a self,
        incoming: &Incoming<'a>,
        outgoing: &Outgoing,
        policy: &'a DestinationPolicy,
        edits: &mut Edits<'a>,
        tally: &mut Tally,
    ) -> FieldSet {
        let mut injected = FieldSet::default();
        let written = policy.inject.formats(incoming.format());
        let arena = edits.arena();
        // The other formats are untouched.
        let concerned = match incoming.mode {
            IncomingMode::Ignore => FormatSet::all(),
            _ => written.union(policy.in_step).union(policy.clear.formats),
        };
        for format in concerned.iter() {
            match self.fate(format, written, incoming, outgoing, policy) {
                Fate::Untouched => {}
                Fate::Removed => {
                    for field in format.fields() {
                        policy.put_field(&incoming.arrived, *field, None, edits);
                    }
                }
                fate @ (Fate::Written | Fate::Kept(_)) => {
                    let arrived = &incoming.arrived;
                    let outgoing = match fate {
                        Fate::Kept(own) => own,
                        _ => self.outgoing_in(format, incoming, outgoing),
                    };
                    format.emit(&outgoing, arrived, self.writing, arena, |field, value| {
                        if value.is_some() && !policy.clears(field) {
                            injected.insert(field);
                        }
                        policy.put_field(arrived, field, value, edits);
                    });
                }
            }
        }
        let trimmed = self.trim_kept(written, &incoming.arrived, policy, edits);
        policy.clear(incoming, edits);
        if trimmed.is_none() || edits.overflowed() {
            tally.count(Counter::EditsDropped);
        }
        injected
    }

    /// Trims the headers that are kept, of the formats that are read or written. Envoy forwards the
    /// white space that a client of HTTP/2 puts around a value, and the next hop may close the
    /// connection on it. Where memory is short, a header without room for its trimmed value is
    /// removed, and `None` is returned.
    #[inline(never)]
    fn trim_kept<'a>(
        &self,
        written: FormatSet,
        arrived: &Arrived<'a>,
        policy: &DestinationPolicy,
        edits: &mut Edits<'a>,
    ) -> Option<()> {
        let mut complete = Some(());
        if arrived.present().is_empty() {
            return complete;
        }
        let formats = written.union(policy.in_step).union(self.extraction.read);
        for field in arrived.present().intersection(formats.fields()).iter() {
            let Some(first) = arrived.raw(field) else {
                continue;
            };
            let name = field.name();
            let is_legal = |line: &[u8]| field_value(line) == Some(line);
            if edits.change_of(name).is_some() || arrived.lines(field).all(is_legal) {
                continue;
            }
            // In a header that is no list, the first line counts.
            let value = match field == Field::Tracestate && arrived.is_repeated(field) {
                true => one_line(arrived, field, edits.arena()),
                false => Some(first),
            };
            match value {
                Some(value) => edits.replace(name, Value::Borrowed(value)),
                None => {
                    edits.remove(name);
                    complete = None;
                }
            }
        }
        complete
    }

    fn fate(
        &self,
        format: Format,
        written: FormatSet,
        incoming: &Incoming<'_>,
        outgoing: &Outgoing,
        policy: &DestinationPolicy,
    ) -> Fate {
        let nothing = *outgoing == Outgoing::Nothing;
        let read = self.extraction.read.contains(format);
        if policy.clear.formats.contains(format) {
            return Fate::Removed;
        }
        if self.placement == Placement::Upstream && nothing {
            return match policy.in_step.contains(format) {
                true => self.fate_without_tracer(format, &incoming.arrived),
                false => Fate::Untouched,
            };
        }
        let incomplete = incoming.kinds.incomplete.contains(format);
        let continued = matches!(outgoing, Outgoing::Context(_));
        if incomplete && !continued && incoming.mode == IncomingMode::Continue {
            return Fate::Untouched;
        }
        if written.contains(format) && (!nothing || read) {
            return Fate::Written;
        }
        if incoming.mode == IncomingMode::Ignore {
            return Fate::Removed;
        }
        if !policy.in_step.contains(format) || !incoming.arrived.has(format) {
            return Fate::Untouched;
        }
        let is_meaningful = incoming.kinds.meaningful.contains(format);
        match self.placement == Placement::Upstream || is_meaningful {
            true => Fate::Written,
            false => Fate::Removed,
        }
    }

    /// Where the tracer wrote nothing, a client's headers are not stale. Of several values that name
    /// one trace, one is left.
    fn fate_without_tracer(&self, format: Format, arrived: &Arrived<'_>) -> Fate {
        let has_several = format.is_joined(arrived)
            || (format == Format::Tracecontext && arrived.is_repeated(Field::Traceparent));
        match format.parse(arrived, self.extraction.reading) {
            Extracted::Malformed => Fate::Removed,
            Extracted::Context(context) if has_several => Fate::Kept(Outgoing::Context(context)),
            Extracted::Sampling(sampling) if has_several => {
                Fate::Kept(Outgoing::Sampling(sampling))
            }
            Extracted::Context(_)
            | Extracted::Sampling(_)
            | Extracted::Incomplete { .. }
            | Extracted::Absent => Fate::Untouched,
        }
    }

    /// The context to write in `format` for `outgoing`. In an upstream filter, a `b3` that is not
    /// the tracer's own is written without a parent. So the next attempt can distinguish it from a
    /// `b3` that the tracer writes.
    fn outgoing_in(
        &self,
        format: Format,
        incoming: &Incoming<'_>,
        outgoing: &Outgoing,
    ) -> Outgoing {
        match outgoing {
            Outgoing::Context(context)
                if self.placement == Placement::Upstream
                    && format == Format::B3
                    && incoming.format() != Some(Format::B3) =>
            {
                Outgoing::Context(TraceContext {
                    b3_parent: None,
                    ..*context
                })
            }
            outgoing => *outgoing,
        }
    }
}

impl DestinationPolicy {
    /// Removes the headers that the configuration clears, and the tracing headers of an ignored
    /// caller that no format reads.
    fn clear<'a>(&'a self, incoming: &Incoming<'a>, edits: &mut Edits<'a>) {
        let arrived = &incoming.arrived;
        for field in self.clear.fields.intersection(arrived.present()).iter() {
            edits.remove(field.name());
        }
        for name in &self.clear.names {
            // A stage before this one may have written it. A cleared header is never sent on.
            if arrived.headers().contains(name) || edits.change_of(name).is_some() {
                edits.remove(name);
            }
        }
        for family in &self.clear.families {
            remove_family(*family, arrived, edits);
        }
        if incoming.mode == IncomingMode::Ignore {
            families().for_each(|family| remove_family(family, arrived, edits));
        }
    }

    #[inline(never)]
    fn put_field<'a>(
        &self,
        arrived: &Arrived<'a>,
        field: Field,
        value: Option<Value<'a>>,
        edits: &mut Edits<'a>,
    ) {
        if self.clear.fields.contains(field) {
            return;
        }
        let name = field.name();
        let repeated = arrived.is_repeated(field);
        match (arrived.raw(field), value) {
            (None, None) => {}
            (Some(_), None) => edits.remove(name),
            // Envoy forwards the white space that a client of HTTP/2 puts around a value, and the
            // next hop may close the connection on it.
            (Some(text), Some(value))
                if !repeated && text == value.as_bytes() && field_value(text) == Some(text) => {}
            (_, Some(value)) => edits.replace(name, value),
        }
    }
}

/// Joins the lines of a list in one (RFC 9110, section 5.3), each without the white space around
/// it; `None` where memory is short.
fn one_line<'a>(arrived: &Arrived<'a>, field: Field, arena: &'a Arena) -> Option<&'a [u8]> {
    let lines = || {
        let lines = arrived.lines(field).map(<[u8]>::trim_ascii);
        lines.filter(|line| !line.is_empty())
    };
    join(lines, b",", arena)
}

/// What happens to the headers of one format.
enum Fate {
    Untouched,
    Removed,
    Written,
    /// The context or decision that this format itself has, in one value.
    Kept(Outgoing),
}

fn remove_family<'a>(family: Family, arrived: &Arrived<'a>, edits: &mut Edits<'a>) {
    let prefix = family.prefix.as_bytes();
    for (name, _) in arrived.headers() {
        if !prefix.is_empty() && name.starts_with(prefix) {
            edits.remove_family(prefix);
        } else if family.contains(name) && edits.change_of(name).is_none() {
            edits.remove(name);
        }
    }
}
