//! JSON, with positions.

use std::sync::Arc;

use super::tree::{Content, Data, Step, Tree};
use super::{MAX_DEPTH, Position, Style, SyntaxError};

struct Reader<'j> {
    text: &'j str,
    bytes: &'j [u8],
    here: usize,
    line: usize,
    /// A byte of this line, and the number of characters before it in the line.
    counted: (usize, usize),
    tree: Tree,
}

pub(super) fn read(text: &str) -> Result<Tree, SyntaxError> {
    let mut reader = Reader {
        text,
        bytes: text.as_bytes(),
        here: 0,
        line: 1,
        counted: (0, 0),
        tree: Tree::default(),
    };
    reader.tree.source = Arc::from(text);
    // A file may have several values one after the other, as tools stream them.
    loop {
        let root = reader.value(0, Step::Document, 0)?;
        reader.tree.roots.push(root);
        reader.skip_space();
        if reader.here >= reader.bytes.len() {
            return Ok(reader.tree);
        }
    }
}

impl Reader<'_> {
    fn position(&mut self) -> Position {
        let (byte, characters) = self.counted;
        let since = self.text.get(byte..self.here).unwrap_or_default();
        self.counted = (self.here, characters + since.chars().count());
        Position::new(self.line, self.counted.1 + 1)
    }

    fn error<T>(&mut self, message: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError::new(self.position(), message))
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.here).copied()
    }

    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => {
                    self.line += 1;
                    self.counted = (self.here + 1, 0);
                }
                b' ' | b'\t' | b'\r' => {}
                _ => return,
            }
            self.here += 1;
        }
    }

    fn add(&mut self, at: Position, parent: u32, step: Step) -> Result<u32, SyntaxError> {
        let id = u32::try_from(self.tree.nodes.len())
            .map_err(|_| SyntaxError::new(at, "too many nodes"))?;
        self.tree.nodes.push(Data {
            at,
            offset: self.here,
            parent,
            step,
            content: Content::Scalar(Box::default(), Style::Plain),
        });
        Ok(id)
    }

    fn fill(&mut self, id: u32, content: Content) {
        if let Some(data) = self.tree.nodes.get_mut(id as usize) {
            data.content = content;
        }
    }

    fn value(&mut self, parent: u32, step: Step, depth: usize) -> Result<u32, SyntaxError> {
        self.skip_space();
        if depth > MAX_DEPTH {
            return self.error(format!("nested more than {MAX_DEPTH} deep"));
        }
        let at = self.position();
        let id = self.add(at, parent, step)?;
        let content = match self.peek() {
            Some(b'{') => self.object(id, depth)?,
            Some(b'[') => self.array(id, depth)?,
            Some(b'"') => Content::Scalar(self.string()?.into_boxed_str(), Style::Double),
            Some(_) => self.word()?,
            None => return self.error("the text ends here; expected a value"),
        };
        self.fill(id, content);
        Ok(id)
    }

    fn object(&mut self, id: u32, depth: usize) -> Result<Content, SyntaxError> {
        let mut children = Vec::new();
        self.here += 1;
        loop {
            self.skip_space();
            match self.peek() {
                Some(b'}') if children.is_empty() => break,
                Some(b'"') => {}
                Some(b'}') => return self.error("a comma before the end of an object"),
                _ => return self.error("expected a key in double quotes"),
            }
            let at = self.position();
            let key = Arc::from(self.string()?);
            self.skip_space();
            if self.peek() != Some(b':') {
                return self.error("expected a colon behind the key");
            }
            self.here += 1;
            children.push(self.value(id, Step::Key(key, at), depth + 1)?);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.here += 1,
                Some(b'}') => break,
                _ => return self.error("expected a comma or the end of the object"),
            }
        }
        self.here += 1;
        Ok(Content::Map(children))
    }

    fn array(&mut self, id: u32, depth: usize) -> Result<Content, SyntaxError> {
        let mut children = Vec::new();
        self.here += 1;
        loop {
            self.skip_space();
            if self.peek() == Some(b']') {
                if children.is_empty() {
                    break;
                }
                return self.error("a comma before the end of a list");
            }
            let place = u32::try_from(children.len()).unwrap_or(u32::MAX);
            children.push(self.value(id, Step::Item(place), depth + 1)?);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.here += 1,
                Some(b']') => break,
                _ => return self.error("expected a comma or the end of the list"),
            }
        }
        self.here += 1;
        Ok(Content::List(children))
    }

    /// A string, from its first quote to its last.
    fn string(&mut self) -> Result<String, SyntaxError> {
        let start = self.here;
        let mut end = start + 1;
        loop {
            match self.bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(b'\n') | None => {
                    return self.error("a string without its closing quote");
                }
                Some(_) => end += 1,
            }
        }
        let raw = self.text.get(start..=end).unwrap_or_default();
        self.here = end + 1;
        // Half of a surrogate pair is not valid text.
        serde_json::from_str(raw).or_else(|error| {
            self.here = start;
            let message = error.to_string();
            let reason = message.split(" at line").next().unwrap_or_default();
            self.error(format!("not a JSON string: {reason}"))
        })
    }

    fn word(&mut self) -> Result<Content, SyntaxError> {
        let start = self.here;
        let is_word =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.' | b'_');
        while self.peek().as_ref().is_some_and(is_word) {
            self.here += 1;
        }
        let word = self.text.get(start..self.here).unwrap_or_default();
        let number = serde_json::from_str::<serde_json::Number>(word);
        if matches!(word, "true" | "false" | "null") || number.is_ok() {
            return Ok(Content::Scalar(Box::from(word), Style::Plain));
        }
        let is_too_large = number.is_err_and(|error| error.to_string().contains("out of range"));
        self.here = start;
        self.error(if word.is_empty() {
            "expected a value".to_owned()
        } else if is_too_large {
            format!("{word} is a larger number than a filter can read; the largest are ±1.8e308")
        } else {
            format!("{word:?} is not a JSON value; a string needs double quotes")
        })
    }
}
