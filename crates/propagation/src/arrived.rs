//! The known headers of one request, found in one pass over the header block.

use meshtrace_headers::Headers;

use crate::field::{Field, FieldSet};

/// What arrived under the known names.
#[derive(Clone, Debug)]
pub struct Arrived<'a> {
    headers: Headers<'a>,
    first: [Option<&'a [u8]>; Field::COUNT],
    repeated: FieldSet,
}

impl<'a> Arrived<'a> {
    /// Looks at every line of `headers` once.
    #[must_use]
    pub fn collect(headers: Headers<'a>) -> Self {
        let mut arrived = Self {
            headers,
            first: [None; Field::COUNT],
            repeated: FieldSet::default(),
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

    /// The whole header block.
    #[must_use]
    pub fn headers(&self) -> &Headers<'a> {
        &self.headers
    }
}
