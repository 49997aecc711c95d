//! The formats of trace context. Each format has a file of its own, which reads and writes its
//! headers.
//!
//! A format's file has `PROPERTIES` (what the format can carry), `parse` (reads its headers) and
//! `emit` (gives the values that the headers must have; see [`Format::emit`]). Elsewhere, a format
//! is named only in its row in `table.rs`.

mod b3;
mod b3_multi;
mod b3_single;
mod datadog;
mod decimal;
mod extracted;
mod gcp;
mod grpc_trace_bin;
mod jaeger;
mod only_header;
mod options;
mod ottrace;
mod properties;
pub(crate) mod table;
mod tracecontext;
mod xray;

use meshtrace_headers::{Arena, Value};

use crate::field::FieldSet;
use crate::vendor::Family;
use crate::{Arrived, Field, Outgoing};

pub use extracted::Extracted;
pub use options::{B3TraceIdBits, OnDefer, Reading, Writing};

pub(crate) use tracecontext::members_of;

macro_rules! format_enum {
    ($(
        $(#[$doc:meta])*
        $format:ident {
            file: $file:ident,
            name: $name:literal,
            headers: { $($field:ident = $header:literal),* },
            shown: $shown:literal,
            extracted: $extracted:ident = $extracted_metric:literal,
            malformed: $malformed:ident = $malformed_metric:literal,
            only: $only:literal,
        }
    )*) => {
        /// A way to write a trace context into headers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[repr(u8)]
        pub enum Format {
            $(
                $(#[$doc])*
                #[cfg_attr(feature = "schema", schemars(rename = $name))]
                $format,
            )*
        }

        meshtrace_config::words!(Format { $($format = $name,)* });

        impl Format {
            /// Every format.
            pub const ALL: &'static [Self] = &[$(Self::$format,)*];

            /// Every format's name, for messages.
            pub const NAMES: &'static str = crate::names::list(concat!($("`", $name, "`, ",)*));

            /// The name by which configurations call it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$format => $name,)*
                }
            }

            /// Its headers, as documentation shows them.
            #[must_use]
            pub const fn shown(self) -> &'static str {
                match self {
                    $(Self::$format => $shown,)*
                }
            }

            /// The headers of this format; the first one has the trace id.
            #[must_use]
            pub const fn fields(self) -> &'static [Field] {
                match self {
                    $(Self::$format => &[$(Field::$field),*],)*
                }
            }

            /// The same headers, as a set.
            pub(crate) const fn field_set(self) -> FieldSet {
                match self {
                    $(Self::$format => const { FieldSet::of(&[$(Field::$field),*]) },)*
                }
            }

            /// The other headers that are removed together with the format: none of them has a
            /// trace id, and some force a trace.
            #[must_use]
            pub const fn companions(self) -> Option<Family> {
                match self {
                    $(Self::$format => $file::PROPERTIES.companions,)*
                }
            }

            /// Reads this format's headers.
            #[must_use]
            pub fn parse(self, arrived: &Arrived<'_>, reading: Reading) -> Extracted {
                match self {
                    $(Self::$format => $file::parse(arrived, reading),)*
                }
            }

            /// Calls `put` for each header of this format with the value that it must have for
            /// `outgoing`, given the headers that `arrived`; with `None` for a header that must not
            /// be there. A header that has the same meaning already keeps its value. `arena` holds
            /// the values that are longer than the ids.
            pub fn emit<'a>(
                self,
                outgoing: &Outgoing,
                arrived: &Arrived<'a>,
                writing: Writing,
                arena: &'a Arena,
                put: impl FnMut(Field, Option<Value<'a>>),
            ) {
                match self {
                    $(Self::$format => $file::emit(outgoing, arrived, writing, arena, put),)*
                }
            }

            /// Whether old receivers of the format get the right-most 64 bits of a 128-bit id.
            pub(crate) const fn cuts_ids(self) -> bool {
                match self {
                    $(Self::$format => $file::PROPERTIES.cuts_ids,)*
                }
            }

            /// Those of its headers whose values are lists.
            #[must_use]
            pub const fn lists(self) -> &'static [Field] {
                match self {
                    $(Self::$format => $file::PROPERTIES.lists,)*
                }
            }

            /// Whether the format can leave the decision open.
            #[must_use]
            pub const fn can_defer(self) -> bool {
                match self {
                    $(Self::$format => $file::PROPERTIES.can_defer,)*
                }
            }
        }
    };
}

table::formats!(format_enum);

impl Format {
    /// The format that configurations call `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|format| format.name() == name)
    }

    /// The formats that are read by default, in order. In an upstream filter they are kept in step.
    pub const EXTRACTED_BY_DEFAULT: &'static [Self] =
        &[Self::Tracecontext, Self::B3, Self::B3Multi];

    /// Whether the first line of an id of this format has several values, joined by commas.
    #[must_use]
    pub fn is_joined(self, arrived: &Arrived<'_>) -> bool {
        let is_id = |field: &&Field| !self.lists().contains(*field);
        let ids = self.fields().iter().filter(is_id);
        ids.filter_map(|field| arrived.raw(*field))
            .any(|text| text.contains(&b','))
    }
}

/// A set of formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FormatSet(u16);

const _: () = assert!(Format::ALL.len() <= 16, "a set has 16 bits");

impl FormatSet {
    pub(crate) fn insert(&mut self, format: Format) {
        self.0 |= 1 << (format as u8);
    }

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn contains(self, format: Format) -> bool {
        self.0 & (1 << (format as u8)) != 0
    }

    /// Every format.
    pub(crate) fn all() -> Self {
        Self::from_iter(Format::ALL.iter().copied())
    }

    /// The formats, in the order of [`Format::ALL`].
    pub(crate) fn iter(self) -> impl Iterator<Item = Format> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let format = Format::ALL.get(rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(*format)
        })
    }

    /// The headers of the formats.
    pub(crate) fn fields(self) -> FieldSet {
        let sets = self.iter().map(Format::field_set);
        sets.fold(FieldSet::default(), FieldSet::union)
    }
}

impl FromIterator<Format> for FormatSet {
    fn from_iter<I: IntoIterator<Item = Format>>(formats: I) -> Self {
        let mut set = Self::default();
        formats.into_iter().for_each(|format| set.insert(format));
        set
    }
}
