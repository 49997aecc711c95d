//! How types are read from a [`Value`].

use std::collections::BTreeMap;

use crate::document::Document;
use crate::error::{ConfigError, Mistakes};
use crate::value::{Key, Kind, Value};

/// A type that is read from a configuration.
///
/// [`object!`](crate::object) implements it for a struct and [`words!`](crate::words) for an enum of
/// names.
pub trait Read: Sized {
    /// Its keys, where it is an object with keys of its own.
    const KEYS: &'static [Key] = &[];

    /// Whether `null` is a value of it.
    const TAKES_NULL: bool = false;

    /// Reads `value`. What is wrong with it is told to `value`, and something stands in its place,
    /// so that the reading goes on.
    fn read(value: Value<'_>) -> Self;
}

/// A configuration as far as it could be read, and the mistakes in it.
#[derive(Debug)]
pub struct Draft<T> {
    config: T,
    mistakes: Mistakes,
}

impl<T: Read + Default> Draft<T> {
    /// Reads `json`; an empty configuration is the default.
    #[inline(never)]
    pub fn read(json: &[u8]) -> Self {
        let mut mistakes = Mistakes::default();
        let config = match json.trim_ascii() {
            [] => T::default(),
            _ => match Document::new(json) {
                Ok(document) => {
                    let config = T::read(Value::top(&document));
                    mistakes = document.into_mistakes();
                    config
                }
                Err(error) => {
                    mistakes.add(error);
                    T::default()
                }
            },
        };
        Self { config, mistakes }
    }
}

impl<T> Draft<T> {
    /// The configuration, where nothing is wrong with it.
    ///
    /// # Errors
    /// All mistakes in it.
    pub fn finish(self) -> Result<T, ConfigError> {
        self.mistakes.finish(Some(self.config))
    }

    /// What `compile` makes of the configuration, where nothing is wrong with it.
    ///
    /// # Errors
    /// All mistakes: those of the reading, and those that `compile` finds in what could be read.
    pub fn compile<U>(
        self,
        compile: impl FnOnce(&T) -> Result<U, ConfigError>,
    ) -> Result<U, ConfigError> {
        let compiled = compile(&self.config);
        match self.mistakes.end() {
            Ok(()) => compiled,
            Err(error) => Err(match compiled {
                Ok(_) => error,
                Err(more) => error.and(more),
            }),
        }
    }
}

/// Reads `json` as a `T`; an empty configuration is `T`'s default.
///
/// # Errors
/// When `json` is not JSON or not a `T`: all mistakes, each with its path.
pub fn read<T: Read + Default>(json: &[u8]) -> Result<T, ConfigError> {
    Draft::read(json).finish()
}

impl Read for String {
    fn read(value: Value<'_>) -> Self {
        value.text().unwrap_or_default()
    }
}

impl Read for bool {
    fn read(value: Value<'_>) -> Self {
        value.boolean().unwrap_or_default()
    }
}

impl Read for f64 {
    fn read(value: Value<'_>) -> Self {
        value.number().unwrap_or_default()
    }
}

impl Read for u8 {
    fn read(value: Value<'_>) -> Self {
        let number = value.whole_number(Self::MAX.into());
        number
            .and_then(|number| number.try_into().ok())
            .unwrap_or_default()
    }
}

impl Read for u32 {
    fn read(value: Value<'_>) -> Self {
        let number = value.whole_number(Self::MAX.into());
        number
            .and_then(|number| number.try_into().ok())
            .unwrap_or_default()
    }
}

/// At most that of a module, whatever the machine.
impl Read for usize {
    fn read(value: Value<'_>) -> Self {
        let number = value.whole_number(u32::MAX.into());
        number
            .and_then(|number| number.try_into().ok())
            .unwrap_or_default()
    }
}

/// `null` is `None`. Of an option of an option it is `Some(None)`, and an absent key is `None`.
impl<T: Read> Read for Option<T> {
    const TAKES_NULL: bool = true;

    fn read(value: Value<'_>) -> Self {
        (T::TAKES_NULL || value.kind() != Kind::Null).then(|| T::read(value))
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(value: Value<'_>) -> Self {
        let mut list = Self::new();
        value.items(&mut |item| list.push(T::read(item)));
        list
    }
}

impl<T: Read> Read for BTreeMap<String, T> {
    fn read(value: Value<'_>) -> Self {
        let mut map = Self::new();
        value.map(&mut |name, value| {
            map.insert(name.to_owned(), T::read(value));
        });
        map
    }
}

/// Reads a struct from an object: its fields are the keys. A key that is absent has its value in
/// the struct's `Default`.
///
/// ```
/// #[derive(Default)]
/// struct Rule {
///     name: Option<String>,
///     matches: Vec<String>,
///     weight: u32,
/// }
///
/// meshtrace_config::object!(Rule {
///     name,
///     matches = "match",
///     weight: required,
/// });
///
/// let rule: Rule = meshtrace_config::read(br#"{"match": ["a"], "weight": 3}"#).unwrap();
/// assert_eq!((rule.name, rule.matches.len(), rule.weight), (None, 1, 3));
/// ```
///
/// With `or`, a string is another form of it, which a function reads.
#[macro_export]
macro_rules! object {
    (
        $type:ty { $($field:ident $(= $name:literal)? $(: $required:ident)?),* $(,)? }
        $(or $string:expr, expected $expected:literal)?
    ) => {
        impl $crate::Read for $type {
            const KEYS: &'static [$crate::Key] = &[
                $($crate::object!(@key $($required)?, $field $($name)?)),*
            ];

            fn read(value: $crate::Value<'_>) -> Self {
                #[expect(non_camel_case_types, reason = "they are fields")]
                enum Place {
                    $($field,)*
                }

                $(match value.kind() {
                    $crate::Kind::Object => {}
                    $crate::Kind::String => return $string(value),
                    _ => {
                        value.refuse_form($expected);
                        return Self::default();
                    }
                })?
                let mut object = Self::default();
                value.object(Self::KEYS, &mut |place, value| match place {
                    $(_ if place == Place::$field as usize => {
                        object.$field = $crate::Read::read(value);
                    })*
                    _ => {}
                });
                // The compiler tells of a field that is not a key.
                let Self { $($field: _),* } = &object;
                object
            }
        }
    };
    (@key, $field:ident) => { $crate::Key::optional(stringify!($field)) };
    (@key, $field:ident $name:literal) => { $crate::Key::optional($name) };
    (@key required, $field:ident) => { $crate::Key::required(stringify!($field)) };
    (@key required, $field:ident $name:literal) => { $crate::Key::required($name) };
}

/// Reads an enum from a string: each of its variants has a name. The first one stands where the
/// string is another one.
///
/// ```
/// #[derive(Clone, Copy, Debug, Default, PartialEq)]
/// enum Color {
///     #[default]
///     Red,
///     Blue,
/// }
///
/// meshtrace_config::words!(Color {
///     Red = "red",
///     Blue = "blue",
/// });
///
/// assert_eq!(meshtrace_config::read(br#""blue""#), Ok(Color::Blue));
/// ```
#[macro_export]
macro_rules! words {
    ($type:ty { $first:ident = $first_name:literal $(, $variant:ident = $name:literal)* $(,)? }) => {
        impl $crate::Read for $type {
            fn read(value: $crate::Value<'_>) -> Self {
                const VARIANTS: &[$type] = &[<$type>::$first, $(<$type>::$variant),*];
                let word = value.word(&[$first_name, $($name),*]);
                let variant = word.and_then(|place| VARIANTS.get(place));
                variant.copied().unwrap_or(<$type>::$first)
            }
        }
    };
}
