//! Exact paths, prefixes and templates: an automaton whose letters are path segments.

use std::collections::BTreeMap;

use super::map::ByteMap;
use super::set::RuleSet;
use super::steps::Steps;

/// More states than any sensible set of templates has.
const MAX_STATES: usize = 1 << 16;

/// What a rule asks of a path; each begins with a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathPattern {
    /// Exactly this.
    Exact(Box<[u8]>),
    /// This, and whatever follows after a slash.
    Prefix(Box<[u8]>),
    /// These segments; `None` stands for any that is not empty.
    Template {
        segments: Vec<Option<Box<[u8]>>>,
        /// Whether more may follow.
        open: bool,
    },
}

/// The patterns of all rules. Looking a path up takes one step a segment, whatever the number of
/// rules.
#[derive(Clone, Debug)]
pub(super) struct PathTree {
    states: Vec<State>,
    /// The rules that ask for no path.
    any: RuleSet,
}

#[derive(Clone, Debug, Default)]
struct State {
    next: ByteMap<usize>,
    /// After a segment that is not empty and not in `next`.
    otherwise: Option<usize>,
    /// The path ends here.
    here: RuleSet,
    /// The path goes on, and no pattern goes on with it.
    below: RuleSet,
}

/// There are more states than a configuration may have.
#[derive(Debug)]
pub(super) struct TooManyStates;

impl PathTree {
    /// `any` asks for no path, each of `patterns` for its own.
    pub(super) fn build(
        any: &[usize],
        patterns: &[(usize, &PathPattern)],
    ) -> Result<Self, TooManyStates> {
        let trie = Trie::build(patterns);
        Ok(Self {
            states: determinise(&trie, any)?,
            any: RuleSet::of(any.iter().copied()),
        })
    }

    /// The rules whose pattern `path` fits, with those that ask for none.
    pub(super) fn rules(&self, path: &[u8], steps: &mut impl Steps) -> &RuleSet {
        let (Some((b'/', path)), Some(mut state)) = (path.split_first(), self.states.first())
        else {
            return &self.any;
        };
        for segment in path.split(|byte| *byte == b'/') {
            steps.step();
            let next = match state.next.get(segment) {
                Some(next) => Some(*next),
                None if segment.is_empty() => None,
                None => state.otherwise,
            };
            match next.and_then(|next| self.states.get(next)) {
                Some(next) => state = next,
                None => return &state.below,
            }
        }
        &state.here
    }
}

/// The patterns as a tree of segments, in which a path may go two ways at once.
#[derive(Debug, Default)]
struct Trie {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    literal: BTreeMap<Box<[u8]>, usize>,
    variable: Option<usize>,
    whole: Vec<usize>,
    prefix: Vec<usize>,
}

impl Trie {
    #[inline(never)]
    fn build(patterns: &[(usize, &PathPattern)]) -> Self {
        let mut trie = Self {
            nodes: vec![Node::default()],
        };
        for (rule, pattern) in patterns {
            match pattern {
                PathPattern::Exact(path) => {
                    let end = trie.insert(segments(path).map(|s| Some(s.into())));
                    trie.node(end, |node| node.whole.push(*rule));
                }
                PathPattern::Prefix(path) => {
                    let path = path.strip_suffix(b"/").unwrap_or(path);
                    let end = trie.insert(segments(path).map(|s| Some(s.into())));
                    trie.node(end, |node| node.prefix.push(*rule));
                }
                PathPattern::Template { segments, open } => {
                    let end = trie.insert(segments.iter().cloned());
                    trie.node(end, |node| match open {
                        true => node.prefix.push(*rule),
                        false => node.whole.push(*rule),
                    });
                }
            }
        }
        trie
    }

    /// The node at the end of `segments`.
    fn insert(&mut self, segments: impl Iterator<Item = Option<Box<[u8]>>>) -> usize {
        segments.fold(0, |node, segment| {
            let fresh = self.nodes.len();
            let mut child = fresh;
            self.node(node, |node| {
                child = match segment {
                    Some(text) => *node.literal.entry(text).or_insert(fresh),
                    None => *node.variable.get_or_insert(fresh),
                };
            });
            if child == fresh {
                self.nodes.push(Node::default());
            }
            child
        })
    }

    fn node(&mut self, index: usize, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(index) {
            change(node);
        }
    }

    fn get<'t>(&'t self, nodes: &'t [usize]) -> impl Iterator<Item = &'t Node> {
        nodes.iter().filter_map(|node| self.nodes.get(*node))
    }
}

/// The segments of a path that begins with a slash; none of an empty one.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').skip(1)
}

/// Where a path is in the trie, and the rules whose prefix it has passed.
type Place = (Vec<usize>, Vec<usize>);

/// Makes one state of all places that a path can be in at once.
#[inline(never)]
fn determinise(trie: &Trie, any: &[usize]) -> Result<Vec<State>, TooManyStates> {
    let mut known: BTreeMap<Place, usize> = BTreeMap::new();
    let mut places: Vec<Place> = Vec::new();
    let mut visit = |nodes: Vec<usize>, passed: &[usize], places: &mut Vec<Place>| {
        let mut passed = passed.to_vec();
        passed.extend(trie.get(&nodes).flat_map(|node| &node.prefix));
        passed.sort_unstable();
        passed.dedup();
        let place = (nodes, passed);
        if let Some(state) = known.get(&place) {
            return Ok(*state);
        }
        let state = places.len();
        if state == MAX_STATES {
            return Err(TooManyStates);
        }
        known.insert(place.clone(), state);
        places.push(place);
        Ok(state)
    };

    visit(vec![0], any, &mut places)?;
    let mut states = Vec::new();
    while let Some((nodes, passed)) = places.get(states.len()).cloned() {
        let variables: Vec<_> = trie.get(&nodes).filter_map(|node| node.variable).collect();
        let mut literals: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
        for (text, child) in trie.get(&nodes).flat_map(|node| &node.literal) {
            literals.entry(text).or_default().push(*child);
        }
        let mut next = ByteMap::default();
        for (text, mut children) in literals {
            if !text.is_empty() {
                children.extend(&variables);
            }
            next.insert(text.into(), visit(children, &passed, &mut places)?);
        }
        let otherwise = match variables.is_empty() {
            true => None,
            false => Some(visit(variables, &passed, &mut places)?),
        };
        let whole = trie.get(&nodes).flat_map(|node| &node.whole);
        states.push(State {
            next,
            otherwise,
            here: RuleSet::of(whole.chain(&passed).copied()),
            below: RuleSet::of(passed),
        });
    }
    Ok(states)
}
