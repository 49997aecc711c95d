//! The known headers of one request, found in one pass over the header block.

use meshtrace_headers::Headers;

use crate::TraceId;
use crate::config::OnRepeated;
use crate::field::{Field, FieldSet};

/// What arrived under the known names.
#[derive(Clone, Debug)]
pub struct Arrived<'a> {
    headers: Headers<'a>,
    first: [Option<&'a [u8]>; Field::COUNT],
    repeated: FieldSet,
    on_repeated: OnRepeated,
}

impl<'a> Arrived<'a> {
    /// Looks at every line of `headers` once. A header that came more than once is read as
    /// [`OnRepeated::Reject`] says.
    #[must_use]
    pub fn collect(headers: Headers<'a>) -> Self {
        Self::collect_as(headers, OnRepeated::Reject)
    }

    /// As [`collect`](Self::collect), with this reading of a header that came more than once.
    #[must_use]
    pub fn collect_as(headers: Headers<'a>, on_repeated: OnRepeated) -> Self {
        let mut arrived = Self {
            headers,
            first: [None; Field::COUNT],
            repeated: FieldSet::default(),
            on_repeated,
        };
        for (name, value) in &headers {
            let Some(field) = Field::from_name(name) else {
                continue;
            };
            match arrived.first.get_mut(field as usize) {
                Some(first @ None) => *first = Some(value),
                _ => arrived.repeated.insert(field),
            }
        }
        arrived
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
    /// join repeated lines by commas (RFC 9110, section 5.3). Which of them count is for the trace id
    /// to say ([`one_trace`](Self::one_trace)).
    pub(crate) fn first_item(&self, field: Field) -> Option<&'a [u8]> {
        let text = self.value(field)?;
        match self.on_repeated {
            OnRepeated::Reject => Some(text),
            OnRepeated::SameTrace => items(text).next(),
        }
    }

    /// What `read` makes of `field`, which names a trace. Several values count as the first of them
    /// where all of them are valid and name one trace.
    ///
    /// `lines` says which lines are asked: W3C allows one, and of B3's "the first" counts.
    pub(crate) fn one_trace<T>(
        &self,
        field: Field,
        lines: Asked,
        read: impl Fn(&'a [u8]) -> Option<(TraceId, T)>,
    ) -> Option<T> {
        let text = self.value(field)?;
        let is_repeated = lines == Asked::EveryLine && self.is_repeated(field);
        if !is_repeated && let Some((_, first)) = read(text) {
            return Some(first);
        }
        if self.on_repeated == OnRepeated::Reject || !(is_repeated || text.contains(&b',')) {
            return None;
        }
        let count = if is_repeated { usize::MAX } else { 1 };
        let mut values = self.lines(field).take(count).flat_map(items).map(read);
        let (trace_id, first) = values.next()??;
        let is_same = |value: Option<(TraceId, T)>| value.is_some_and(|(id, _)| id == trace_id);
        values.all(is_same).then_some(first)
    }

    /// The whole header block.
    #[must_use]
    pub fn headers(&self) -> &Headers<'a> {
        &self.headers
    }
}

/// Which lines of a header [`Arrived::one_trace`] looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// All of them.
    EveryLine,
    /// The first one.
    FirstLine,
}

fn items(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}
