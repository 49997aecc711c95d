//! Reads files as trees of nodes. Each node has its position in the file.

mod embedded;
mod json;
mod scalar;
mod tree;
mod yaml;

pub(crate) use scalar::Style;
pub(crate) use tree::{Node, Position, Tree};

/// The largest file that is read, in bytes.
const MAX_BYTES: usize = 64 << 20;

/// The deepest nesting that is read.
const MAX_DEPTH: usize = 128;

/// The most nodes of a document, counted after its aliases are followed.
const MAX_NODES: u64 = 4_000_000;

/// Why a text is not a document, and at which position.
#[derive(Clone, Debug)]
pub(crate) struct SyntaxError {
    pub(crate) at: Position,
    pub(crate) message: String,
}

impl SyntaxError {
    fn new(at: Position, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
        }
    }
}

/// Reads every document of a file as JSON, or as YAML where it is not JSON.
pub(crate) fn read(name: &str, bytes: &[u8]) -> Result<Tree, SyntaxError> {
    let start = Position::START;
    if bytes.len() > MAX_BYTES {
        let message = format!("{} bytes; at most {MAX_BYTES} are read", bytes.len());
        return Err(SyntaxError::new(start, message));
    }
    let text = str::from_utf8(bytes).map_err(|error| {
        let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        let at = Position::new(line, 1);
        SyntaxError::new(at, "not UTF-8; JSON and YAML are")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let looks_like_json = text.trim_start().starts_with(['{', '[']);
    let is_json = name.to_ascii_lowercase().ends_with(".json");
    if looks_like_json || is_json {
        match json::read(text) {
            Ok(tree) => return Ok(tree),
            Err(error) if is_json => return Err(error),
            // A flow collection of YAML, or JSON with comments.
            Err(error) => return yaml::read(text).map_err(|_| templated(text, error)),
        }
    }
    yaml::read(text).map_err(|error| templated(text, error))
}

/// Reads the text of a scalar. Its nodes have positions in that text; the second value makes
/// positions in the scalar's own text of them.
pub(crate) fn read_within(
    host: Node<'_>,
    language: Language,
) -> (Result<Tree, SyntaxError>, impl Fn(Position) -> Position) {
    let text = host.scalar().unwrap_or_default();
    let place = embedded::Place::of(host);
    let tree = match language {
        Language::Json => json::read(text),
        Language::Yaml => yaml::read(text),
    };
    (tree, move |at| place.position(at))
}

/// The language of a text within a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Json,
    Yaml,
}

/// Adds to the error that the file is a template, where it is one.
fn templated(text: &str, mut error: SyntaxError) -> SyntaxError {
    if text.contains("{{") {
        error
            .message
            .push_str("; a template is to be rendered first (helm template, envsubst, jinja)");
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Tree {
        read("a.yaml", text.as_bytes()).expect("YAML")
    }

    /// Where the character behind `"` of the JSON text under `key` stands.
    fn place(text: &str) -> (u32, u32) {
        let tree = tree(text);
        let root = tree.documents().next().expect("a document");
        let value = root.get("key").expect("the key");
        let (within, place) = read_within(value, Language::Json);
        let within = within.expect("JSON").moved(place);
        let map = within.documents().next().expect("a map");
        let at = map.get("b").expect("b").position();
        (at.line, at.column)
    }

    #[test]
    fn a_text_within_a_text_stands_where_the_file_has_it() {
        for (text, expected) in [
            ("key: |\n  {\"a\": 1,\n   \"b\": 2}\n", (3, 9)),
            ("key: |-\n    {\n      \"b\": 2}\n", (3, 12)),
            ("key: '{\"a\": \"''\", \"b\": 2}'\n", (1, 24)),
            ("key: \"{\\\"a\\\": \\\"é\\\", \\\"b\\\": 2}\"\n", (1, 29)),
            ("key: {\"a\": 1, \"b\": 2}\n", (1, 20)),
            ("key: |\n  {\"a\": 1,\n   \"b\": 2}", (3, 9)),
            // Lines that are joined: where the text begins.
            ("key: >\n  {\"a\": 1,\n  \"b\": 2}\n", (2, 3)),
        ] {
            let tree = tree(text);
            let root = tree.documents().next().expect("a document");
            let value = root.get("key").expect("the key");
            if value.is_map() {
                let at = value.get("b").expect("b").position();
                assert_eq!((at.line, at.column), expected, "{text}");
            } else {
                assert_eq!(place(text), expected, "{text}");
            }
        }
    }

    #[test]
    fn the_end_of_a_text_is_in_the_file() {
        let tree = tree("key: |\n  {\"a\": 1,\n   \"b\": 2");
        let root = tree.documents().next().expect("a document");
        let (within, place) = read_within(root.get("key").expect("a text"), Language::Json);
        let at = place(within.expect_err("no JSON").at);
        assert_eq!((at.line, at.column), (3, 10));
    }

    #[test]
    fn json_and_yaml_have_the_same_positions_and_paths() {
        let text = "{\"a\": [{\"b.c\": \"é\", \"d\": [true, null]}]}";
        for name in ["a.json", "a.yaml"] {
            let tree = read(name, text.as_bytes()).expect("a document");
            let root = tree.documents().next().expect("a map");
            let item = root.list("a").next().expect("an item");
            let last = item.list("d").last().expect("a value");
            let (at, key) = (last.position(), item.get("d").map(Node::key_position));
            assert_eq!((at.line, at.column), (1, 33), "{name}");
            assert_eq!(key, Some(Position::new(1, 21)), "{name}");
            assert_eq!(last.path(), "a[0].d[1]");
            let dotted = item.get_exactly("b.c").expect("a key");
            assert_eq!(dotted.path(), "a[0][\"b.c\"]");
        }
    }

    #[test]
    fn a_number_that_is_too_large_is_called_so() {
        for (text, expected) in [
            ("[1e999]", "1e999 is a larger number than a filter can read"),
            (
                "[-1e999]",
                "-1e999 is a larger number than a filter can read",
            ),
            ("[1e]", "\"1e\" is not a JSON value"),
        ] {
            let error = read("a.json", text.as_bytes()).expect_err("no JSON");
            assert!(error.message.starts_with(expected), "{}", error.message);
        }
    }

    #[test]
    fn aliases_and_merge_keys_are_followed() {
        let text = "base: &base {a: 1}\nown:\n  <<: *base\n  b: 2\nlist: [*base]\n";
        let tree = tree(text);
        let root = tree.documents().next().expect("a map");
        let number = |node: Option<Node<'_>>| node.and_then(Node::number);
        assert_eq!(number(root.at(&["own", "a"])), Some(1.0));
        assert_eq!(
            number(root.list("list").next().and_then(|item| item.get("a"))),
            Some(1.0)
        );
    }
}
