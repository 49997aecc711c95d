//! Headers of tracers whose context is not converted: they are forwarded, or removed.

use crate::names;

/// The headers of one tracer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Their names, lower-case.
    pub names: &'static [&'static str],
    /// The prefix of further names; empty where there are none.
    pub prefix: &'static str,
}

impl Family {
    /// The headers that a name with `*` at its end stands for.
    #[must_use]
    pub fn from_pattern(pattern: &str) -> Option<Self> {
        let mut patterns = PATTERNS.iter();
        let (_, family) = patterns.find(|(known, _)| *known == pattern)?;
        Some(*family)
    }

    pub(crate) fn contains(&self, header: &[u8]) -> bool {
        let mut names = self.names.iter();
        names.any(|name| name.as_bytes() == header)
            || (!self.prefix.is_empty() && header.starts_with(self.prefix.as_bytes()))
    }
}

/// The companions of `jaeger` (Jaeger client libraries, "Propagation Format"): `jaeger-debug-id`
/// forces a trace.
pub(crate) const JAEGER: Family = Family {
    names: &["jaeger-debug-id"],
    prefix: "uberctx-",
};

/// Baggage that is sent with one request for debugging. No trace needs it.
const JAEGER_BAGGAGE: Family = Family {
    names: &["jaeger-baggage"],
    prefix: "",
};

/// The companions of `ottrace`.
pub(crate) const OTTRACE: Family = Family {
    names: &[],
    prefix: "ot-baggage-",
};

/// What stands for several headers, by their beginning.
const PATTERNS: [(&str, Family); 4] = [
    (
        "uberctx-*",
        Family {
            names: &[],
            ..JAEGER
        },
    ),
    ("ot-baggage-*", OTTRACE),
    ("x-instana-*", Vendor::Instana.family()),
    ("sw8*", Vendor::SkyWalking.family()),
];

macro_rules! vendors {
    ($($(#[$doc:meta])* $vendor:ident = $name:literal [$($header:literal),*] $prefix:literal,)*) => {
        /// A vendor whose trace headers can be removed by its name in `clear`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Vendor {
            $($(#[$doc])* $vendor,)*
        }

        impl Vendor {
            /// Every vendor.
            pub const ALL: &'static [Self] = &[$(Self::$vendor,)*];

            /// Every vendor's name, for messages.
            pub const NAMES: &'static str = names::list(concat!($("`", $name, "`, ",)*));

            /// The name by which configurations call it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$vendor => $name,)*
                }
            }

            /// Its headers.
            #[must_use]
            pub const fn family(self) -> Family {
                match self {
                    $(Self::$vendor => Family { names: &[$($header),*], prefix: $prefix },)*
                }
            }

            /// The vendor that configurations call `name`.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|vendor| vendor.name() == name)
            }
        }
    };
}

vendors! {
    /// Application Insights before W3C (Hierarchical Request-Id).
    Azure = "azure" ["request-id", "request-context"] "",
    /// Dynatrace OneAgent.
    Dynatrace = "dynatrace" ["x-dynatrace"] "",
    /// Elastic APM before W3C.
    Elastic = "elastic" ["elastic-apm-traceparent"] "",
    /// Honeycomb's Beelines.
    Honeycomb = "honeycomb" ["x-honeycomb-trace"] "",
    /// IBM Instana: `x-instana-t`, `x-instana-s`, `x-instana-l` and others.
    Instana = "instana" [] "x-instana-",
    /// LightStep's tracers.
    Lightstep = "lightstep" ["x-ot-span-context"] "",
    /// New Relic, with the headers of its cross application tracing.
    NewRelic = "newrelic" ["newrelic", "x-newrelic-id", "x-newrelic-transaction"] "",
    /// Sentry.
    Sentry = "sentry" ["sentry-trace"] "",
    /// Apache SkyWalking: its context, correlation and extension.
    SkyWalking = "skywalking" ["sw8", "sw8-correlation", "sw8-x"] "",
}

/// Every family. Their headers are removed from an ignored caller's request, besides the formats.
pub fn families() -> impl Iterator<Item = Family> {
    let vendors = Vendor::ALL.iter().map(|vendor| vendor.family());
    [JAEGER, JAEGER_BAGGAGE, OTTRACE].into_iter().chain(vendors)
}

/// How many whole names [`families`] have together.
pub const FAMILY_NAMES: usize = {
    let mut count = JAEGER.names.len() + JAEGER_BAGGAGE.names.len() + OTTRACE.names.len();
    let mut vendors = Vendor::ALL;
    while let [vendor, rest @ ..] = vendors {
        count += vendor.family().names.len();
        vendors = rest;
    }
    count
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Field;
    use crate::format::Format;
    use meshtrace_headers::is_token;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn every_name_is_one_headers_and_no_formats() {
        let mut known = Vec::new();
        for family in families() {
            let texts = family.names.iter().copied().chain([family.prefix]);
            for text in texts.filter(|text| !text.is_empty()) {
                assert!(is_token(text.as_bytes()), "{text}");
                assert_eq!(text, text.to_ascii_lowercase());
                assert!(!known.contains(&text), "{text} is listed twice");
                known.push(text);
                let field = Field::from_name(text.as_bytes());
                let of_a_format = |field: &Field| {
                    let mut formats = Format::ALL.iter();
                    formats.any(|format| format.fields().contains(field))
                };
                assert!(!field.is_some_and(|field| of_a_format(&field)), "{text}");
            }
        }
    }

    #[test]
    fn a_pattern_is_a_beginning_that_a_family_has() {
        for (pattern, names, prefix) in [
            ("uberctx-*", &[][..], "uberctx-"),
            ("ot-baggage-*", &[], "ot-baggage-"),
            ("x-instana-*", &[], "x-instana-"),
            ("sw8*", &["sw8", "sw8-correlation", "sw8-x"], ""),
        ] {
            let family = Family::from_pattern(pattern).map(|family| (family.names, family.prefix));
            assert_eq!(family, Some((names, prefix)), "{pattern}");
        }
        for pattern in [
            "*",
            "",
            "uberctx-",
            "uberctx*",
            "x-*",
            "request-*",
            "sw8-*",
            "s*w8",
        ] {
            assert_eq!(Family::from_pattern(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn the_names_of_all_families_are_counted() {
        let counted: usize = families().map(|family| family.names.len()).sum();
        assert_eq!(counted, FAMILY_NAMES);
    }

    #[test]
    fn every_name_finds_its_vendor_and_is_said_in_messages() {
        for vendor in Vendor::ALL {
            assert_eq!(Vendor::from_name(vendor.name()), Some(*vendor));
            let quoted = format!("`{}`", vendor.name());
            assert!(Vendor::NAMES.contains(&quoted), "{quoted}");
            assert!(!Format::NAMES.contains(&quoted), "{quoted}");
        }
        assert_eq!(Vendor::NAMES.matches('`').count(), 2 * Vendor::ALL.len());
    }

    #[test]
    fn every_field_that_no_format_reads_is_a_vendors() {
        for field in Field::UNCONVERTIBLE {
            assert!(
                families().any(|family| family.contains(field.name())),
                "{field:?}"
            );
        }
    }
}
