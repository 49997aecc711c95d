//! The versions of Envoy and Istio that a configuration is for.

use std::fmt;
use std::str::FromStr;

use crate::document::Tree;

/// The minor version of Envoy 1 or Istio 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minor(pub u32);

impl FromStr for Minor {
    type Err = String;

    /// Reads a version: `1.37`, `v1.37` and `1.37.0` are the same.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix('v').unwrap_or(text);
        let minor = number.strip_prefix("1.").map(|rest| {
            let end = rest.find(['.', '-']).unwrap_or(rest.len());
            rest.get(..end).unwrap_or_default()
        });
        let is_number = |digits: &&str| {
            !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
        };
        minor
            .filter(is_number)
            .and_then(|digits| digits.parse().ok())
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a version; expected one such as 1.37"))
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// Istio's minor version and this number are the minor version of its Envoy: Istio 1.28 has Envoy
/// 1.36.
const ISTIO_TO_ENVOY: u32 = 8;

/// The known versions: the oldest and the newest of Envoy and of Istio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Versions {
    envoy: Option<(Minor, Minor)>,
    pub(crate) istio: Option<(Minor, Minor)>,
}

impl Versions {
    /// The versions from the command line. Without them, those of the file are used.
    pub(crate) fn new(envoy: Option<Minor>, istio: Option<Minor>) -> Self {
        let one = |minor: Minor| (minor, minor);
        Self {
            envoy: envoy.map(one),
            istio: istio.map(one),
        }
    }

    /// The versions in the comments at the head of a file: `# Envoy: 1.36 to 1.40`, `# Istio:
    /// 1.29`.
    pub(crate) fn of_head(source: &str) -> Self {
        let mut versions = Self::default();
        let head = source
            .lines()
            .map(|line| line.trim_start_matches('\u{feff}'))
            .take_while(|line| line.starts_with(['#', '%']) || line.trim_end() == "---");
        for line in head {
            let line = line.trim_start_matches('#').trim();
            let Some((what, range)) = line.split_once(": ") else {
                continue;
            };
            let mut minors = range.split(" to ").map(str::parse);
            let Some(Ok(first)) = minors.next() else {
                continue;
            };
            let last = match minors.next() {
                Some(Ok(last)) => last,
                _ => first,
            };
            match what {
                "Envoy" => versions.envoy = Some((first, last)),
                "Istio" => versions.istio = Some((first, last)),
                _ => {}
            }
        }
        versions
    }

    /// The version of the Envoy from which the dump is.
    pub(crate) fn of_dump(tree: &Tree) -> Self {
        const KEY: &str = "user_agent_build_version";
        if !tree.source().contains(KEY) {
            return Self::default();
        }
        let version = tree
            .maps()
            .find_map(|map| map.get_exactly(KEY)?.get("version"));
        let minor = version.and_then(|version| version.get("minor_number")?.scalar()?.parse().ok());
        Self::new(minor.map(Minor), None)
    }

    /// These versions; where one is not known, that of `other`.
    pub(crate) fn or(self, other: Self) -> Self {
        if self == Self::default() { other } else { self }
    }

    /// The oldest and the newest Envoy.
    pub(crate) fn envoy(&self) -> Option<(Minor, Minor)> {
        let of_istio = |minor: Minor| Minor(minor.0 + ISTIO_TO_ENVOY);
        self.envoy.or_else(|| {
            self.istio
                .map(|(first, last)| (of_istio(first), of_istio(last)))
        })
    }

    /// The oldest Envoy and, where it is known, the oldest Istio, as a text for the user. `None`
    /// where Envoy is not older than `minor`.
    pub(crate) fn older_than(&self, minor: u32) -> Option<String> {
        let (oldest, _) = self.envoy().filter(|(oldest, _)| oldest.0 < minor)?;
        Some(match self.istio {
            Some((istio, _)) if self.envoy.is_none() => format!("Istio {istio} (Envoy {oldest})"),
            _ => format!("Envoy {oldest}"),
        })
    }

    /// Whether the versions are Istio's alone, so that Envoy is the build in Istio's proxy.
    pub(crate) fn are_of_istio(&self) -> bool {
        self.envoy.is_none() && self.istio.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_tell_versions() {
        let versions = Versions::of_head("# Istio: 1.28 to 1.31\n# Tracer: otel\na: 1\n");
        assert_eq!(versions.envoy(), Some((Minor(36), Minor(39))));
        assert_eq!(
            versions.older_than(38).as_deref(),
            Some("Istio 1.28 (Envoy 1.36)")
        );
        assert_eq!(versions.older_than(36), None);
        let versions = Versions::of_head("# Envoy: 1.36\nb: 1\n# Envoy: 1.40\n");
        assert_eq!(versions.envoy(), Some((Minor(36), Minor(36))));
        assert_eq!(Versions::of_head("# nothing\n"), Versions::default());
    }

    #[test]
    fn versions_are_read_with_and_without_their_patch() {
        for text in ["1.37", "v1.37", "1.37.0", "1.37.6-dev"] {
            assert_eq!(text.parse(), Ok(Minor(37)), "{text}");
        }
        for text in ["37", "1.", "1.x", "", "2.0"] {
            assert!(text.parse::<Minor>().is_err(), "{text}");
        }
    }
}
