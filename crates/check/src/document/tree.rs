//! The nodes of one file, and how they are read.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Number, Value};

use super::scalar::{Plain, Style, plain};

/// A place in a file: line and column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Position {
    pub(crate) const START: Self = Self { line: 1, column: 1 };

    pub(crate) fn new(line: usize, column: usize) -> Self {
        Self {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }
    }
}

/// The step from a node's parent to the node.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Document,
    Key(Arc<str>, Position),
    Item(u32),
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Scalar(Box<str>, Style),
    List(Vec<u32>),
    Map(Vec<u32>),
}

#[derive(Clone, Debug)]
pub(super) struct Data {
    pub(super) at: Position,
    /// The byte at which its value begins.
    pub(super) offset: usize,
    pub(super) parent: u32,
    pub(super) step: Step,
    pub(super) content: Content,
}

/// All documents of one file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    /// The given file that it is, or that contains it.
    input: usize,
    /// A number that no other tree has.
    number: usize,
    /// The path before the paths of its nodes.
    prefix: String,
    pub(super) source: Arc<str>,
    pub(super) nodes: Vec<Data>,
    pub(super) roots: Vec<u32>,
}

impl Tree {
    /// The file's text.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Makes the tree, which gets this number, part of an input, below a path.
    pub(crate) fn of_input(mut self, input: usize, number: usize, prefix: &str) -> Self {
        self.input = input;
        self.number = number;
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// The documents.
    pub(crate) fn documents(&self) -> impl Iterator<Item = Node<'_>> {
        self.roots.iter().map(|id| Node {
            tree: self,
            id: *id,
        })
    }

    /// Every node that is a map, in the order of the file.
    pub(crate) fn maps(&self) -> impl Iterator<Item = Node<'_>> {
        let is_map = |(id, data): (usize, &Data)| {
            let id = u32::try_from(id).ok()?;
            matches!(data.content, Content::Map(_)).then_some(Node { tree: self, id })
        };
        self.nodes.iter().enumerate().filter_map(is_map)
    }

    /// The same nodes with other positions.
    pub(crate) fn moved(mut self, position: impl Fn(Position) -> Position) -> Self {
        for data in &mut self.nodes {
            data.at = position(data.at);
            if let Step::Key(_, at) = &mut data.step {
                *at = position(*at);
            }
        }
        self
    }
}

/// One node.
#[derive(Clone, Copy)]
pub(crate) struct Node<'t> {
    tree: &'t Tree,
    id: u32,
}

impl std::fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path())
    }
}

impl PartialEq for Node<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.tree, other.tree) && self.id == other.id
    }
}

impl<'t> Node<'t> {
    fn data(self) -> Option<&'t Data> {
        self.tree.nodes.get(self.id as usize)
    }

    /// The given file that contains the node.
    pub(crate) fn input(self) -> usize {
        self.tree.input
    }

    /// The number of its tree, and the number of the node in its tree.
    pub(crate) fn id(self) -> (usize, u32) {
        (self.tree.number, self.id)
    }

    /// The position of its value.
    pub(crate) fn position(self) -> Position {
        self.data().map_or(Position::START, |data| data.at)
    }

    /// The file's text from where its value begins.
    pub(super) fn source_from(self) -> &'t str {
        let offset = self.data().map_or(0, |data| data.offset);
        self.tree.source.get(offset..).unwrap_or_default()
    }

    /// The position of its key; without a key, the position of its value.
    pub(crate) fn key_position(self) -> Position {
        match self.data() {
            Some(Data {
                step: Step::Key(_, at),
                ..
            }) => *at,
            _ => self.position(),
        }
    }

    /// Its key in the map that contains it.
    pub(crate) fn key(self) -> Option<&'t str> {
        match &self.data()?.step {
            Step::Key(key, _) => Some(key),
            _ => None,
        }
    }

    /// The node that contains it.
    pub(crate) fn parent(self) -> Option<Self> {
        let data = self.data()?;
        match data.step {
            Step::Document => None,
            _ => Some(Self {
                tree: self.tree,
                id: data.parent,
            }),
        }
    }

    /// The keys and list places that lead to it in the document: `spec.match[0].mode`.
    pub(crate) fn path(self) -> String {
        let mut steps = Vec::new();
        let mut node = Some(self);
        while let Some(here) = node {
            match here.data().map(|data| &data.step) {
                Some(Step::Key(key, _)) => steps.push(if plain_key(key) {
                    format!(".{key}")
                } else {
                    format!("[{key:?}]")
                }),
                Some(Step::Item(place)) => steps.push(format!("[{place}]")),
                _ => {}
            }
            node = here.parent();
        }
        steps.reverse();
        let path = steps.concat();
        if self.tree.prefix.is_empty() {
            return path.strip_prefix('.').map_or(path.clone(), str::to_owned);
        }
        format!("{}{path}", self.tree.prefix)
    }

    fn child(self, id: u32) -> Self {
        Self {
            tree: self.tree,
            id,
        }
    }

    fn children(self) -> &'t [u32] {
        match self.data().map(|data| &data.content) {
            Some(Content::List(children) | Content::Map(children)) => children,
            _ => &[],
        }
    }

    pub(crate) fn is_map(self) -> bool {
        matches!(self.data(), Some(data) if matches!(data.content, Content::Map(_)))
    }

    pub(crate) fn is_list(self) -> bool {
        matches!(self.data(), Some(data) if matches!(data.content, Content::List(_)))
    }

    /// The values of a map, with their keys as they are written.
    pub(crate) fn entries(self) -> impl Iterator<Item = (&'t str, Self)> {
        let children = if self.is_map() { self.children() } else { &[] };
        children.iter().filter_map(move |id| {
            let child = self.child(*id);
            Some((child.key()?, child))
        })
    }

    /// The values of a list.
    pub(crate) fn items(self) -> impl Iterator<Item = Self> {
        let children = if self.is_list() { self.children() } else { &[] };
        children.iter().map(move |id| self.child(*id))
    }

    /// The value of `key`, which is in snake case. In protobuf's JSON it may also be in camel case.
    pub(crate) fn get(self, key: &str) -> Option<Self> {
        self.entries()
            .find(|(name, _)| same_key(name, key))
            .map(|(_, value)| value)
            .filter(|value| !value.is_null())
    }

    /// The value of `key` in exactly this spelling.
    pub(crate) fn get_exactly(self, key: &str) -> Option<Self> {
        self.entries()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }

    /// The value at the end of a path of keys.
    pub(crate) fn at(self, keys: &[&str]) -> Option<Self> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The items of the list under `key`.
    pub(crate) fn list(self, key: &str) -> impl Iterator<Item = Self> {
        self.get(key).into_iter().flat_map(Self::items)
    }

    fn plain(self) -> Plain {
        match self.data().map(|data| &data.content) {
            Some(Content::Scalar(text, Style::Plain)) => plain(text),
            _ => Plain::Text,
        }
    }

    /// The text of a scalar of any kind.
    pub(crate) fn scalar(self) -> Option<&'t str> {
        match &self.data()?.content {
            Content::Scalar(text, _) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn style(self) -> Option<Style> {
        match self.data()?.content {
            Content::Scalar(_, style) => Some(style),
            _ => None,
        }
    }

    /// The text of a scalar that is not a number, a boolean or null.
    pub(crate) fn text(self) -> Option<&'t str> {
        self.scalar().filter(|_| self.plain() == Plain::Text)
    }

    pub(crate) fn text_at(self, keys: &[&str]) -> Option<&'t str> {
        self.at(keys)?.scalar()
    }

    /// A boolean. Protobuf's JSON accepts no other spelling.
    pub(crate) fn bool(self) -> Option<bool> {
        match self.plain() {
            Plain::Bool(truth) => Some(truth),
            _ => None,
        }
    }

    /// A number, also in quotes, as protobuf's JSON accepts it.
    pub(crate) fn number(self) -> Option<f64> {
        match self.plain() {
            Plain::Number(number) => Some(number),
            _ => self.text()?.parse().ok(),
        }
    }

    /// Whether it is a number without quotes.
    pub(crate) fn is_number(self) -> bool {
        matches!(self.plain(), Plain::Number(_))
    }

    pub(crate) fn is_null(self) -> bool {
        self.scalar().is_some() && self.plain() == Plain::Null
    }

    /// The value of `@type` after its last slash.
    pub(crate) fn type_url(self) -> Option<&'t str> {
        let url = self.get_exactly("@type")?.scalar()?;
        Some(url.rsplit('/').next().unwrap_or(url))
    }

    /// A short text about the node for the user.
    pub(crate) fn describe(self) -> Cow<'t, str> {
        if self.is_map() {
            return "a map".into();
        }
        if self.is_list() {
            return "a list".into();
        }
        match self.plain() {
            Plain::Null => "null".into(),
            Plain::Bool(truth) => truth.to_string().into(),
            Plain::Number(_) => format!("the number {}", self.scalar().unwrap_or_default()).into(),
            Plain::Text => format!("{:?}", shortened(self.scalar().unwrap_or_default())).into(),
        }
    }

    /// The node as JSON.
    pub(crate) fn to_json(self) -> Value {
        if self.is_map() {
            let entries = self
                .entries()
                .map(|(key, value)| (key.to_owned(), value.to_json()));
            return Value::Object(entries.collect::<Map<_, _>>());
        }
        if self.is_list() {
            return Value::Array(self.items().map(Self::to_json).collect());
        }
        let text = self.scalar().unwrap_or_default();
        match self.plain() {
            Plain::Null => Value::Null,
            Plain::Bool(truth) => Value::Bool(truth),
            Plain::Number(number) => {
                let exact = text.parse::<i64>().ok().map(Number::from);
                exact
                    .or_else(|| Number::from_f64(number))
                    .map_or(Value::Null, Value::Number)
            }
            Plain::Text => Value::String(text.to_owned()),
        }
    }
}

/// Whether `name` is `key`, in snake case or in camel case.
fn same_key(name: &str, key: &str) -> bool {
    let letters = |text: &'_ str| {
        text.bytes()
            .filter(|byte| *byte != b'_')
            .map(|byte| byte.to_ascii_lowercase())
            .collect::<Vec<_>>()
    };
    // Most keys differ in their first letter, or are spelled the same.
    let first = |text: &str| text.bytes().next().map(|byte| byte.to_ascii_lowercase());
    name == key || first(name) == first(key) && letters(name) == letters(key)
}

fn plain_key(key: &str) -> bool {
    !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'@' | b'/'))
}

/// At most 80 characters of a text.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
