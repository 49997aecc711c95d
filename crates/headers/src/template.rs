//! Path templates: the one grammar of `template` in a rule and of `path` in an attribute.

use core::fmt;

/// A template of paths, such as `/users/{id}`. The query is not part of it.
///
/// After the first slash come segments, divided by slashes. A segment is text, `{name}` for any
/// segment that is not empty, or `*` for the same without a name. At the end, `**` stands for any
/// number of segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate<'t> {
    /// The segments, without a `**`.
    pub segments: Vec<Segment<'t>>,
    /// Whether it ends in `**`: more segments may follow.
    pub open: bool,
}

/// A segment of a [`PathTemplate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment<'t> {
    /// This text, which may be empty.
    Text(&'t str),
    /// Any segment that is not empty, with the name of a `{name}`.
    Any(Option<&'t str>),
}

/// The reason why a text is no template. Displayed, it is the text that is expected instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateRefusal<'t> {
    /// It does not begin with a slash.
    NoSlash,
    /// This is no valid segment.
    Segment(&'t str),
}

impl fmt::Display for TemplateRefusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSlash => f.write_str("expected a path template such as \"/users/{id}\""),
            Self::Segment(text) => write!(
                f,
                "expected segments of text, `{{name}}`, `*`, or at the end `**`, such as \
                 \"/users/{{id}}\"; {text:?} is none"
            ),
        }
    }
}

impl<'t> PathTemplate<'t> {
    /// Reads `text`.
    ///
    /// # Errors
    /// When `text` is no template.
    pub fn parse(text: &'t str) -> Result<Self, TemplateRefusal<'t>> {
        let rest = text.strip_prefix('/').ok_or(TemplateRefusal::NoSlash)?;
        let (rest, open) = match rest.strip_suffix("**") {
            Some("") => {
                return Ok(Self {
                    segments: Vec::new(),
                    open: true,
                });
            }
            Some(before) => match before.strip_suffix('/') {
                Some(before) => (before, true),
                None => (rest, false),
            },
            None => (rest, false),
        };
        let segments = rest.split('/').map(segment).collect::<Result<_, _>>()?;
        Ok(Self { segments, open })
    }
}

fn segment(text: &str) -> Result<Segment<'_>, TemplateRefusal<'_>> {
    const SPECIAL: [char; 5] = ['{', '}', '*', '?', '#'];

    let name = text
        .strip_prefix('{')
        .and_then(|name| name.strip_suffix('}'));
    match name {
        Some(name) if !name.is_empty() && !name.contains(SPECIAL) => Ok(Segment::Any(Some(name))),
        None if text == "*" => Ok(Segment::Any(None)),
        None if !text.contains(SPECIAL) => Ok(Segment::Text(text)),
        _ => Err(TemplateRefusal::Segment(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::Segment::{Any, Text};
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_grammar() {
        for (text, segments, open) in [
            ("/", &[Text("")][..], false),
            ("/a/b", &[Text("a"), Text("b")], false),
            ("/a/", &[Text("a"), Text("")], false),
            ("/{id}", &[Any(Some("id"))], false),
            ("/*/x", &[Any(None), Text("x")], false),
            ("/a/**", &[Text("a")], true),
            ("/**", &[], true),
        ] {
            let segments = segments.to_vec();
            assert_eq!(
                PathTemplate::parse(text),
                Ok(PathTemplate { segments, open })
            );
        }
        for (text, refusal) in [
            ("", TemplateRefusal::NoSlash),
            ("a", TemplateRefusal::NoSlash),
            ("/a*", TemplateRefusal::Segment("a*")),
            ("/a**", TemplateRefusal::Segment("a**")),
            ("/**/a", TemplateRefusal::Segment("**")),
            ("/{}", TemplateRefusal::Segment("{}")),
            ("/{a}s", TemplateRefusal::Segment("{a}s")),
            ("/{a{b}", TemplateRefusal::Segment("{a{b}")),
            ("/a?b", TemplateRefusal::Segment("a?b")),
            ("/a#b", TemplateRefusal::Segment("a#b")),
        ] {
            assert_eq!(PathTemplate::parse(text), Err(refusal));
        }
    }
}
