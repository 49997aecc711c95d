//! The versions that configuration is rendered for.

use core::fmt;
use core::str::FromStr;

macro_rules! versions {
    ($(#[$doc:meta])* $name:ident, $what:literal: $($version:ident = $text:literal,)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $(
                #[doc = concat!($what, " ", $text, ".")]
                $version,
            )*
        }

        impl $name {
            /// All versions, in order.
            pub const ALL: &'static [Self] = &[$(Self::$version,)*];

            /// The minor version, such as `1.37`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$version => $text,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($what, " "))?;
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;

            /// Reads a version: `1.37`, `v1.37` and `1.37.0` are the same.
            fn from_str(text: &str) -> Result<Self, String> {
                let number = text.strip_prefix('v').unwrap_or(text);
                let minor = |version: &&Self| {
                    let rest = number.strip_prefix(version.as_str());
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
                };
                Self::ALL.iter().find(minor).copied().ok_or_else(|| {
                    let known = [$($text,)*].join(", ");
                    format!("{text:?} is no version of {} that is known here, expected one of {known}", $what)
                })
            }
        }
    };
}

versions! {
    /// A version of Envoy.
    EnvoyVersion, "Envoy":
    V1_36 = "1.36",
    V1_37 = "1.37",
    V1_38 = "1.38",
    V1_39 = "1.39",
    V1_40 = "1.40",
}

versions! {
    /// A version of Istio.
    IstioVersion, "Istio":
    V1_28 = "1.28",
    V1_29 = "1.29",
    V1_30 = "1.30",
    V1_31 = "1.31",
}

impl EnvoyVersion {
    /// Whether custom tags take substitution formats (`CustomTag.value`).
    pub(crate) fn tags_read_filter_state(self) -> bool {
        self >= Self::V1_37
    }

    /// Whether this version has `%SPAN_ID%`.
    pub(crate) fn logs_span_ids(self) -> bool {
        self >= Self::V1_38
    }
}

impl IstioVersion {
    /// The version of Envoy in the proxies of this Istio.
    #[must_use]
    pub fn envoy(self) -> EnvoyVersion {
        match self {
            Self::V1_28 => EnvoyVersion::V1_36,
            Self::V1_29 => EnvoyVersion::V1_37,
            Self::V1_30 => EnvoyVersion::V1_38,
            Self::V1_31 => EnvoyVersion::V1_39,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_with_and_without_their_patch() {
        for text in ["1.37", "v1.37", "1.37.0", "1.37.6-dev"] {
            assert_eq!(text.parse(), Ok(EnvoyVersion::V1_37), "{text}");
        }
        for text in ["1.3", "1.370", "1", "", "1.35", "37"] {
            let refusal = text.parse::<EnvoyVersion>().unwrap_err();
            assert!(refusal.contains("expected one of 1.36, 1.37"), "{refusal}");
        }
    }

    #[test]
    fn an_istio_without_filter_state_in_tags_has_such_an_envoy() {
        let able = |version: &&IstioVersion| version.envoy().tags_read_filter_state();
        let first = IstioVersion::ALL.iter().find(able);
        assert_eq!(first, Some(&IstioVersion::V1_29));
    }
}
