//! Exact paths, prefixes and templates: a tree whose edges are path segments.
//!
//! A path may be at several nodes of one depth at once, for a segment fits the edge of its own text
//! and that of a variable. Two such nodes differ in which segments before them are variables: in
//! their form. So there are never more of them than there are forms, whatever the number of rules.

use arrayvec::ArrayVec;
use meshtrace_config::ConfigError;

use super::map::{Places, place};
use super::set::{RuleSet, Union};
use super::steps::Steps;

/// The most forms at one depth: more than any sensible set of templates has. All of them may have to
/// be looked at for a segment of a request.
const MAX_FORMS: usize = 64;
/// The most nodes: sixteen segments for each rule, where no two rules begin alike.
const MAX_NODES: usize = 1 << 16;

/// The pattern of a rule for the path. Each pattern begins with a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathPattern {
    /// The path is equal to this text.
    Exact(Box<[u8]>),
    /// The path is equal to this text, or goes on with a slash after it.
    Prefix(Box<[u8]>),
    /// The path has these segments. `None` stands for any segment that is not empty.
    Template {
        segments: Vec<Option<Box<[u8]>>>,
        /// Whether more segments may follow.
        open: bool,
    },
}

/// The patterns of all rules. The look-up of a path takes one step for each segment and form,
/// whatever the number of rules.
#[derive(Clone, Debug)]
pub(super) struct PathTree {
    nodes: Vec<Node>,
    /// The rules without a path pattern.
    any: RuleSet,
}

#[derive(Clone, Debug, Default)]
struct Node {
    literal: Places,
    /// The node behind any segment that is not empty.
    variable: Option<usize>,
    /// The rules that a path fits that ends here.
    whole: RuleSet,
    /// The rules that a path fits that ends here or goes on.
    prefix: RuleSet,
}

/// Why patterns are refused.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There are more than [`MAX_FORMS`] forms of so many segments.
    Forms(usize),
    /// There are more than [`MAX_NODES`] nodes.
    Nodes,
}

impl From<Refusal> for ConfigError {
    fn from(refusal: Refusal) -> Self {
        let reason = match refusal {
            Refusal::Forms(segments) => format!(
                "the path templates have their variables in more than {MAX_FORMS} ways within \
                 {segments} segments; expected fewer"
            ),
            Refusal::Nodes => format!(
                "the paths, prefixes and templates have more than {MAX_NODES} segments together, \
                 where what begins alike counts once; expected fewer"
            ),
        };
        Self::new("rules", reason)
    }
}

impl PathTree {
    /// `any` are the rules without a path pattern, `patterns` the rules with one.
    pub(super) fn build(
        any: &[usize],
        patterns: &[(usize, &PathPattern)],
    ) -> Result<Self, Refusal> {
        Ok(Self {
            nodes: Tree::build(patterns)?,
            any: RuleSet::of(any.iter().copied()),
        })
    }

    /// Adds the rules whose pattern `path` fits, and the rules without a path pattern.
    pub(super) fn add(&self, path: &[u8], rules: &mut Union, steps: &mut impl Steps) {
        rules.add(&self.any);
        let (Some((b'/', path)), Some(root)) = (path.split_first(), self.nodes.first()) else {
            return;
        };
        rules.add(&root.prefix);
        let (mut one, mut other) = (Nodes::new(), Nodes::new());
        // They change places with each segment, and are not moved.
        let (mut at, mut next) = (&mut one, &mut other);
        // There is room in them: a node more would be one of another form.
        let _ = at.try_push(root);
        for segment in path.split(|byte| *byte == b'/') {
            for node in at.iter() {
                steps.step();
                let literal = node.literal.get(segment);
                let variable = node.variable.as_ref().filter(|_| !segment.is_empty());
                let children = literal.into_iter().chain(variable);
                for child in children.filter_map(|child| self.nodes.get(*child)) {
                    rules.add(&child.prefix);
                    let _ = next.try_push(child);
                }
            }
            core::mem::swap(&mut at, &mut next);
            next.clear();
            if at.is_empty() {
                return;
            }
        }
        for node in at.iter() {
            rules.add(&node.whole);
        }
    }
}

/// The nodes of one depth at which a path is.
type Nodes<'t> = ArrayVec<&'t Node, MAX_FORMS>;

/// The tree while it is built.
#[derive(Debug)]
struct Tree {
    nodes: Vec<Node>,
    forms: Forms,
}

impl Tree {
    #[inline(never)]
    fn build(patterns: &[(usize, &PathPattern)]) -> Result<Vec<Node>, Refusal> {
        let mut tree = Self {
            nodes: vec![Node::default()],
            forms: Forms::default(),
        };
        for (rule, pattern) in patterns {
            let (end, is_prefix) = match pattern {
                PathPattern::Exact(path) => (tree.insert(&mut texts(path))?, false),
                PathPattern::Prefix(path) => {
                    let path = path.strip_suffix(b"/").unwrap_or(path);
                    (tree.insert(&mut texts(path))?, true)
                }
                PathPattern::Template { segments, open } => (
                    tree.insert(&mut segments.iter().map(Option::as_deref))?,
                    *open,
                ),
            };
            if let Some(end) = tree.nodes.get_mut(end) {
                let rules = if is_prefix {
                    &mut end.prefix
                } else {
                    &mut end.whole
                };
                rules.insert(*rule);
            }
        }
        Ok(tree.nodes)
    }

    /// The node at the end of `segments`.
    #[inline(never)]
    fn insert(
        &mut self,
        segments: &mut dyn Iterator<Item = Option<&[u8]>>,
    ) -> Result<usize, Refusal> {
        let (mut at, mut form) = (0, 0);
        for (depth, segment) in segments.enumerate() {
            form = self.forms.next(form, segment.is_none(), depth)?;
            let fresh = self.nodes.len();
            if let Some(node) = self.nodes.get_mut(at) {
                at = match segment {
                    Some(text) => place(&mut node.literal, text, fresh),
                    None => *node.variable.get_or_insert(fresh),
                };
            }
            if at == fresh {
                if fresh == MAX_NODES {
                    return Err(Refusal::Nodes);
                }
                self.nodes.push(Node::default());
            }
        }
        Ok(at)
    }
}

/// Which segments of patterns are variables. The form of no segment is 0.
#[derive(Debug, Default)]
struct Forms {
    /// Each form by the form without its last segment, and whether that segment is a variable.
    known: Places,
    /// The number of forms of one segment, of two, …
    counts: Vec<usize>,
}

impl Forms {
    /// The form with one segment more than `form`, which has `depth`.
    fn next(&mut self, form: usize, is_variable: bool, depth: usize) -> Result<usize, Refusal> {
        let fresh = self.known.len() + 1;
        let key = form * 2 + usize::from(is_variable);
        let next = place(&mut self.known, &key.to_le_bytes(), fresh);
        if next == fresh {
            if depth == self.counts.len() {
                self.counts.push(0);
            }
            if let Some(count) = self.counts.get_mut(depth) {
                *count += 1;
                if *count > MAX_FORMS {
                    return Err(Refusal::Forms(depth + 1));
                }
            }
        }
        Ok(next)
    }
}

/// The segments of a path that begins with a slash. An empty path has no segments.
fn texts(path: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    path.split(|byte| *byte == b'/').skip(1).map(Some)
}
