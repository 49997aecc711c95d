//! The known headers of one request, found in one pass over the header block.

use meshtrace_headers::{Headers, is_without};

use crate::TraceId;
use crate::field::{Field, FieldSet};
use crate::format::Format;
use crate::id::same_trace;

/// What becomes of a header that came more than once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub enum OnRepeated {
    /// The first value counts where all of them name one trace.
    #[default]
    SameTrace,
    /// It is malformed (W3C Trace Context, section 3.2: exactly one `traceparent`).
    Reject,
}

meshtrace_config::words!(OnRepeated {
    SameTrace = "same_trace",
    Reject = "reject",
});

/// What arrived under the known names.
#[derive(Clone, Debug)]
pub struct Arrived<'a> {
    headers: Headers<'a>,
    first: [Option<&'a [u8]>; Field::COUNT],
    present: FieldSet,
    repeated: FieldSet,
    on_repeated: OnRepeated,
}

impl<'a> Arrived<'a> {
    /// Reads every line of `headers` once. A header that came more than once is read with
    /// [`OnRepeated::Reject`].
    #[must_use]
    pub fn collect(headers: Headers<'a>) -> Self {
        Self::collect_as(headers, OnRepeated::Reject)
    }

    /// The same as [`collect`](Self::collect), with this reading of a header that came more than
    /// once.
    #[must_use]
    pub fn collect_as(headers: Headers<'a>, on_repeated: OnRepeated) -> Self {
        let mut arrived = Self::unread(headers, on_repeated);
        arrived.read();
        arrived
    }

    /// What [`read`](Self::read) completes in its place: it is too large to be moved about.
    pub(crate) fn unread(headers: Headers<'a>, on_repeated: OnRepeated) -> Self {
        Self {
            headers,
            first: [None; Field::COUNT],
            present: FieldSet::default(),
            repeated: FieldSet::default(),
            on_repeated,
        }
    }

    /// Reads every line of the headers once.
    #[inline(never)]
    pub(crate) fn read(&mut self) {
        for (name, value) in &self.headers {
            let Some(field) = Field::from_name(name) else {
                continue;
            };
            match self.first.get_mut(field as usize) {
                Some(first @ None) => *first = Some(value),
                _ => self.repeated.insert(field),
            }
            self.present.insert(field);
        }
    }

    /// The first line of `field`, without the white space around it.
    #[must_use]
    pub fn value(&self, field: Field) -> Option<&'a [u8]> {
        self.raw(field).map(<[u8]>::trim_ascii)
    }

    /// The first line of `field` as it is.
    #[must_use]
    pub fn raw(&self, field: Field) -> Option<&'a [u8]> {
        self.first.get(field as usize).copied().flatten()
    }

    /// Whether any header of `format` arrived. Otherwise the format's content is absent.
    pub(crate) fn has(&self, format: Format) -> bool {
        !self.present.intersection(format.field_set()).is_empty()
    }

    /// The known headers that arrived.
    pub(crate) fn present(&self) -> FieldSet {
        self.present
    }

    /// Whether `field` came in more than one line.
    #[must_use]
    pub fn is_repeated(&self, field: Field) -> bool {
        self.repeated.contains(field)
    }

    /// Every line of `field`, in order.
    pub fn lines(&self, field: Field) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.headers.lines(field.name())
    }

    /// The first of the values that were joined in the first line of `field`: an intermediary may
    /// join repeated lines by commas (RFC 9110, section 5.3). The header with the trace id decides
    /// which of the values count ([`one_trace`](Self::one_trace)).
    pub(crate) fn first_item(&self, field: Field) -> Option<&'a [u8]> {
        let text = self.value(field)?;
        match self.on_repeated {
            OnRepeated::Reject => Some(text),
            OnRepeated::SameTrace => items(text).next(),
        }
    }

    /// The same as [`first_item`](Self::first_item), for a header with an id: all of its values
    /// must be valid.
    #[inline(never)]
    pub(crate) fn first_id(
        &self,
        field: Field,
        is_valid: &dyn Fn(&[u8]) -> bool,
    ) -> Option<&'a [u8]> {
        let first = self.first_item(field)?;
        let text = self.value(field)?;
        let others_are_valid = || text.len() == first.len() || items(text).all(is_valid);
        (is_valid(first) && others_are_valid()).then_some(first)
    }

    /// The value of `field`, which has a trace id. Where the field has several values, the first
    /// one counts, if all of them are valid and have the same trace id, as `trace_of` reads it. In
    /// a format that `cuts_ids`, some values may have only the right half of the id: then the first
    /// value with the whole id counts.
    ///
    /// No format has commas inside a value. W3C allows one line. In the other formats the first
    /// line counts, as in B3. An empty value names no trace, and is ignored beside others, as an
    /// empty element of a list is (RFC 9110, section 5.6.1.2).
    #[inline(never)]
    pub(crate) fn one_trace(
        &self,
        field: Field,
        cuts_ids: bool,
        trace_of: &dyn Fn(&[u8]) -> Option<TraceId>,
    ) -> Option<&'a [u8]> {
        let text = self.value(field)?;
        let is_repeated = field == Field::Traceparent && self.is_repeated(field);
        if !is_repeated && (is_without(text, b',') || !text.contains(&b',')) {
            return Some(text);
        }
        if self.on_repeated == OnRepeated::Reject {
            return None;
        }
        let count = if is_repeated { usize::MAX } else { 1 };
        let mut chosen = None;
        for value in self.lines(field).take(count).flat_map(items) {
            let trace_id = trace_of(value)?;
            let Some((_, known)) = chosen else {
                chosen = Some((value, trace_id));
                continue;
            };
            if same_trace((known, cuts_ids), (trace_id, cuts_ids))? != known {
                chosen = Some((value, trace_id));
            }
        }
        chosen.map(|(value, _)| value)
    }

    /// The whole header block.
    #[must_use]
    pub fn headers(&self) -> &Headers<'a> {
        &self.headers
    }
}

/// The values that are joined in `line`, without empty ones.
fn items(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let values = line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    values.filter(|value| !value.is_empty())
}
