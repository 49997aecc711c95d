//! Path templates.

use meshtrace_config::ConfigError;
use meshtrace_headers::{self as headers, PathTemplate, path_of};

use super::list::percent_decoded;
use crate::text::Raw;

/// The longest template, in segments.
const MAX_SEGMENTS: usize = 32;

/// A path with one segment to take, such as `/api/users/{id}`.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    text: Box<str>,
    segments: Box<[Segment]>,
    /// Whether more segments may follow.
    open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Text(Box<[u8]>),
    /// Any segment that is not empty.
    Any,
    /// The segment to take.
    Taken,
}

impl Template {
    #[inline(never)]
    pub(super) fn new(path: &str, capture: &str) -> Result<Self, ConfigError> {
        let refuse = |message: String| ConfigError::new("path", message);
        let template = PathTemplate::parse(path)
            .map_err(|refusal| ConfigError::invalid_text("path", path, &refusal))?;
        let segment = |segment: &headers::Segment<'_>| match segment {
            headers::Segment::Text(text) => Segment::Text(text.as_bytes().into()),
            headers::Segment::Any(Some(name)) if *name == capture => Segment::Taken,
            headers::Segment::Any(_) => Segment::Any,
        };
        let segments: Vec<_> = template.segments.iter().map(segment).collect();
        if segments.len() > MAX_SEGMENTS {
            return Err(refuse(format!(
                "{} segments, expected at most {MAX_SEGMENTS}",
                segments.len()
            )));
        }
        let taken = segments.iter().filter(|s| **s == Segment::Taken).count();
        if taken != 1 {
            return Err(ConfigError::new(
                "capture",
                format!(
                    "invalid value: string {capture:?}, expected the name of one `{{name}}` in \
                     `path`"
                ),
            ));
        }
        Ok(Self {
            text: path.into(),
            segments: segments.into(),
            open: template.open,
        })
    }

    /// The template as it is written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the whole of `path` fits. The query is ignored.
    pub(crate) fn fits(&self, path: &[u8]) -> bool {
        self.find(path).is_some()
    }

    /// The segment to take of `path`, without its percent-encoding.
    pub(super) fn capture<'r>(&self, path: &[u8], raw: &'r mut Raw) -> Option<&'r [u8]> {
        percent_decoded(self.find(path)?, raw)
    }

    fn find<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let mut given = path_of(path)
            .strip_prefix(b"/")?
            .split(|byte| *byte == b'/');
        let mut taken = None;
        for segment in &self.segments {
            let text = given.next()?;
            match segment {
                Segment::Text(expected) if **expected != *text => return None,
                Segment::Any | Segment::Taken if text.is_empty() => return None,
                Segment::Taken => taken = Some(text),
                Segment::Text(_) | Segment::Any => {}
            }
        }
        if !self.open && given.next().is_some() {
            return None;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_segment_is_taken_where_the_whole_path_matches() {
        for (template, path, expected) in [
            ("/api/users/{id}", "/api/users/42", Some("42")),
            ("/api/users/{id}", "/api/users/42?x=/1", Some("42")),
            ("/api/users/{id}", "/api/users/a%20b%2Fc", Some("a b/c")),
            ("/api/users/{id}", "/api/users/", None),
            ("/api/users/{id}", "/api/users/42/", None),
            ("/api/users/{id}", "/api/users/42/orders", None),
            ("/api/users/{id}", "/api/Users/42", None),
            ("/api/users/{id}", "api/users/42", None),
            ("/api/users/{id}", "", None),
            ("/{v}/users/{id}/", "/v1/users/42/", Some("42")),
            ("/*/{id}/**", "/v1/42", Some("42")),
            ("/*/{id}/**", "/v1/42/", Some("42")),
            ("/*/{id}/**", "/v1/42/a/b", Some("42")),
            ("/*/{id}/**", "//42", None),
            ("/{id}", "*", None),
        ] {
            let mut raw = Raw::new();
            let template_of = Template::new(template, "id").unwrap();
            let found = template_of.capture(path.as_bytes(), &mut raw);
            assert_eq!(found, expected.map(str::as_bytes), "{template} {path}");
        }
    }

    #[test]
    fn impossible_templates_are_refused() {
        let deep = "/a".repeat(33) + "/{id}";
        for (template, capture, expected) in [
            ("users/{id}", "id", "path: invalid value: string"),
            ("/users/{id}s", "id", "; \"{id}s\" is none"),
            ("/users/{id}/**/x", "id", "; \"**\" is none"),
            ("/users/{}", "id", "; \"{}\" is none"),
            ("/users/{id}?x", "id", "; \"{id}?x\" is none"),
            (&deep, "id", "path: 34 segments, expected at most 32"),
            (
                "/users/{id}",
                "name",
                "capture: invalid value: string \"name\"",
            ),
            ("/users/{id}/{id}", "id", "capture: invalid value"),
            ("/**", "id", "capture: invalid value"),
            ("/users/{id}", "", "capture: invalid value"),
        ] {
            let refusal = Template::new(template, capture).unwrap_err().to_string();
            assert!(refusal.contains(expected), "{template}: {refusal}");
        }
    }
}
