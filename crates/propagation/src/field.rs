//! The headers that carry trace context, each name written once.

use crate::format::table::formats;

macro_rules! field_enum {
    ($(
        $(#[$doc:meta])*
        $format:ident {
            file: $file:ident,
            name: $format_name:literal,
            headers: { $($field:ident = $name:literal),* },
            shown: $shown:literal,
            extracted: $extracted:ident = $extracted_metric:literal,
            malformed: $malformed:ident = $malformed_metric:literal,
            only: $only:literal,
        }
    )*) => {
        /// A header that carries trace context, in any format in use.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Field {
            $($(
                #[doc = concat!("A header of `", $format_name, "`.")]
                $field,
            )*)*
            /// LightStep's opaque context. No format reads it.
            XOtSpanContext,
            /// The header of SkyWalking that has the trace id. No format reads it.
            Sw8,
        }

        impl Field {
            /// Every known header.
            pub const ALL: &'static [Self] =
                &[$($(Self::$field,)*)* Self::XOtSpanContext, Self::Sw8];
            pub(crate) const COUNT: usize = Self::ALL.len();

            /// The header's name, lower-case.
            #[must_use]
            pub const fn name(self) -> &'static [u8] {
                match self {
                    $($(Self::$field => $name,)*)*
                    Self::XOtSpanContext => b"x-ot-span-context",
                    Self::Sw8 => b"sw8",
                }
            }

            /// The field whose lower-case name is `name`.
            #[must_use]
            pub fn from_name(name: &[u8]) -> Option<Self> {
                match name {
                    $($($name => Some(Self::$field),)*)*
                    b"x-ot-span-context" => Some(Self::XOtSpanContext),
                    b"sw8" => Some(Self::Sw8),
                    _ => None,
                }
            }
        }
    };
}

formats!(field_enum);

impl Field {
    /// The headers of formats that cannot be converted: they pass, or go.
    #[cfg(test)]
    pub(crate) const UNCONVERTIBLE: &'static [Self] = &[Self::XOtSpanContext, Self::Sw8];
}

/// A set of headers that carry trace context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(u32);

const _: () = assert!(Field::COUNT <= 32, "a set has 32 bits");

impl FieldSet {
    /// The set of these `fields`.
    pub(crate) const fn of(mut fields: &[Field]) -> Self {
        let mut set = 0;
        while let [field, rest @ ..] = fields {
            set |= 1 << (*field as u8);
            fields = rest;
        }
        Self(set)
    }

    pub(crate) fn insert(&mut self, field: Field) {
        self.0 |= 1 << (field as u8);
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The headers, in the order of [`Field::ALL`].
    pub(crate) fn iter(self) -> impl Iterator<Item = Field> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let field = Field::ALL.get(rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(*field)
        })
    }

    /// Those of these headers that are in `other` too.
    pub(crate) fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `field` is one of them.
    #[must_use]
    pub fn contains(self, field: Field) -> bool {
        self.0 & (1 << (field as u8)) != 0
    }
}

#[cfg(test)]
mod tests {
    use meshtrace_headers::Headers;

    use super::*;
    use crate::Arrived;
    use crate::format::{Extracted, Format, Reading};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn every_field_is_of_a_format_or_cannot_be_converted() {
        for field in Field::ALL {
            let formats = Format::ALL.iter();
            let of_a_format = formats
                .filter(|format| format.fields().contains(field))
                .count();
            let unconvertible = Field::UNCONVERTIBLE.contains(field);
            assert_eq!(of_a_format, usize::from(!unconvertible), "{field:?}");
        }
    }

    #[test]
    fn a_format_whose_headers_are_not_there_is_absent() {
        for format in Format::ALL {
            let mut others = FieldSet::default();
            for field in Field::ALL
                .iter()
                .filter(|field| !format.fields().contains(field))
            {
                others.insert(*field);
            }
            assert!(others.intersection(format.field_set()).is_empty());
            let lines: Vec<_> = others.iter().map(|field| (field.name(), b"1")).collect();
            let block = meshtrace_headers::encode(&lines);
            let arrived = Arrived::collect(Headers::parse(&block).unwrap());
            assert!(!arrived.has(*format));
            let extracted = format.parse(&arrived, Reading { b3_strict: true });
            assert_eq!(extracted, Extracted::Absent, "{format:?}");
        }
    }

    #[test]
    fn every_name_finds_its_field_and_is_lower_case() {
        for field in Field::ALL {
            assert_eq!(Field::from_name(field.name()), Some(*field));
            assert_eq!(field.name(), field.name().to_ascii_lowercase());
        }
        assert_eq!(Field::from_name(b"x-request-id"), None);
        assert_eq!(Field::from_name(b""), None);
    }
}
