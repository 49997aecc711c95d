//! Reads YAML from the events of a parser.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Span, options};

use super::tree::{Content, Data, Step, Tree};
use super::{MAX_DEPTH, MAX_NODES, Position, Style, SyntaxError};

/// A collection that is being read.
struct Open {
    id: u32,
    anchor: usize,
    children: Vec<u32>,
    /// The key whose value is not read yet.
    key: Option<(Arc<str>, Position)>,
    is_map: bool,
    weight: u64,
    /// The depth of the collection, with its aliases followed.
    height: usize,
}

/// The number of nodes of a value, and their depth.
#[derive(Clone, Copy)]
struct Size {
    nodes: u64,
    height: usize,
}

impl Size {
    const SCALAR: Self = Self {
        nodes: 1,
        height: 0,
    };
}

#[derive(Default)]
struct Composer {
    tree: Tree,
    open: Vec<Open>,
    /// Nodes with an anchor, and their size with aliases followed.
    anchors: HashMap<usize, (u32, Size)>,
    total: u64,
    /// The byte at which the event's text begins.
    offset: usize,
}

pub(super) fn read(text: &str) -> Result<Tree, SyntaxError> {
    let mut composer = Composer::default();
    composer.tree.source = Arc::from(text);
    let mut options = options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        // JSON in one line has long keys' values before its colons at times.
        simple_key_max_lookahead: 1 << 20
    };
    options.set_emit_comments(false);
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| {
            let marker = error.marker();
            let at = Position::new(marker.line(), marker.col() + 1);
            SyntaxError::new(at, error.info())
        })?;
        composer.take(event, &span)?;
    }
    Ok(composer.tree)
}

impl Composer {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), SyntaxError> {
        let at = Position::new(span.start.line(), span.start.col() + 1);
        self.offset = span.start.byte_offset().unwrap_or_default();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if self.takes_key() {
                    self.set_key(Arc::from(&*text), at);
                    return Ok(());
                }
                let is_text = tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
                let style = match style {
                    ScalarStyle::Plain if is_text => Style::Single,
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted => Style::Single,
                    ScalarStyle::DoubleQuoted => Style::Double,
                    ScalarStyle::Literal => Style::Literal,
                    ScalarStyle::Folded => Style::Folded,
                };
                let content = Content::Scalar(text.into_owned().into_boxed_str(), style);
                let id = self.add(at, content)?;
                self.attach(id, anchor, Size::SCALAR, at)?;
            }
            Event::SequenceStart(_, anchor, _) => self.begin(at, anchor, false)?,
            Event::MappingStart(_, anchor, _) => self.begin(at, anchor, true)?,
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(mut open) = self.open.pop() {
                    if open.is_map {
                        self.merge(&mut open.children);
                    }
                    if let Some(data) = self.tree.nodes.get_mut(open.id as usize) {
                        data.content = if open.is_map {
                            Content::Map(open.children)
                        } else {
                            Content::List(open.children)
                        };
                    }
                    let size = Size {
                        nodes: open.weight + 1,
                        height: open.height + 1,
                    };
                    self.attach(open.id, open.anchor, size, at)?;
                }
            }
            Event::Alias(anchor) => {
                if self.takes_key() {
                    return Err(SyntaxError::new(at, "an alias as a key is not supported"));
                }
                let Some((id, size)) = self.anchors.get(&anchor).copied() else {
                    let message = "an alias to a collection that it stands in";
                    return Err(SyntaxError::new(at, message));
                };
                // An alias has its own position, so it becomes a node of its own with the same
                // children.
                let Some(target) = self.tree.nodes.get(id as usize) else {
                    return Ok(());
                };
                let content = target.content.clone();
                let id = self.add(at, content)?;
                self.attach(id, 0, size, at)?;
            }
            Event::DocumentEnd => self.anchors.clear(),
            _ => {}
        }
        Ok(())
    }

    /// Replaces the merge key `<<` of a map by the entries of its map, or of its maps. The map's own
    /// entries come first.
    fn merge(&self, children: &mut Vec<u32>) {
        let key = |id: u32| match &self.tree.nodes.get(id as usize)?.step {
            Step::Key(key, _) => Some(&**key),
            _ => None,
        };
        let content = |id: u32| self.tree.nodes.get(id as usize).map(|data| &data.content);
        let Some(place) = children.iter().position(|id| key(*id) == Some("<<")) else {
            return;
        };
        let maps = match children.get(place).and_then(|id| content(*id)) {
            Some(Content::Map(entries)) => vec![entries],
            Some(Content::List(items)) => items
                .iter()
                .filter_map(|id| match content(*id)? {
                    Content::Map(entries) => Some(entries),
                    _ => None,
                })
                .collect(),
            _ => return,
        };
        children.remove(place);
        let mut known: HashSet<_> = children.iter().map(|own| key(*own)).collect();
        for id in maps.into_iter().flatten() {
            if known.insert(key(*id)) {
                children.push(*id);
            }
        }
    }

    fn takes_key(&self) -> bool {
        matches!(self.open.last(), Some(open) if open.is_map && open.key.is_none())
    }

    fn set_key(&mut self, key: Arc<str>, at: Position) {
        if let Some(open) = self.open.last_mut() {
            open.key = Some((key, at));
        }
    }

    fn begin(&mut self, at: Position, anchor: usize, is_map: bool) -> Result<(), SyntaxError> {
        if self.takes_key() {
            return Err(SyntaxError::new(
                at,
                "a list or a map as a key is not supported",
            ));
        }
        if self.open.len() >= MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} deep");
            return Err(SyntaxError::new(at, message));
        }
        let id = self.add(at, Content::List(Vec::new()))?;
        self.open.push(Open {
            id,
            anchor,
            children: Vec::new(),
            key: None,
            is_map,
            weight: 0,
            height: 0,
        });
        Ok(())
    }

    fn add(&mut self, at: Position, content: Content) -> Result<u32, SyntaxError> {
        let id = u32::try_from(self.tree.nodes.len())
            .map_err(|_| SyntaxError::new(at, "too many nodes"))?;
        self.tree.nodes.push(Data {
            at,
            offset: self.offset,
            parent: 0,
            step: Step::Document,
            content,
        });
        Ok(id)
    }

    /// Adds a finished node to the collection that contains it.
    fn attach(
        &mut self,
        id: u32,
        anchor: usize,
        size: Size,
        at: Position,
    ) -> Result<(), SyntaxError> {
        if anchor != 0 {
            self.anchors.insert(anchor, (id, size));
        }
        let Some(open) = self.open.last_mut() else {
            self.total = self.total.saturating_add(size.nodes);
            if self.total > MAX_NODES {
                let message = format!("more than {MAX_NODES} nodes");
                return Err(SyntaxError::new(at, message));
            }
            self.tree.roots.push(id);
            return Ok(());
        };
        open.height = open.height.max(size.height);
        if open.height >= MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} deep with its aliases followed");
            return Err(SyntaxError::new(at, message));
        }
        open.weight = open.weight.saturating_add(size.nodes);
        if open.weight > MAX_NODES {
            let message = format!("more than {MAX_NODES} nodes with its aliases followed");
            return Err(SyntaxError::new(at, message));
        }
        let step = if open.is_map {
            match open.key.take() {
                Some((key, at)) => Step::Key(key, at),
                None => Step::Document,
            }
        } else {
            Step::Item(u32::try_from(open.children.len()).unwrap_or(u32::MAX))
        };
        open.children.push(id);
        let parent = open.id;
        if let Some(data) = self.tree.nodes.get_mut(id as usize) {
            data.parent = parent;
            data.step = step;
        }
        Ok(())
    }
}
