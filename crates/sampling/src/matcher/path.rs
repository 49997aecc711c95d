//! Exact paths, prefixes and templates: an automaton whose letters are path segments.

use super::map::{ByteMap, Places, place};
use super::set::RuleSet;
use super::steps::Steps;

/// The most states of the automaton: more than any sensible set of templates has.
const MAX_STATES: usize = 1 << 16;
/// The most nodes and prefixes of all states together. They are copied while the automaton is built.
const MAX_PARTS: usize = 1 << 20;

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

/// The patterns of all rules. The look-up of a path takes one step for each segment, whatever the
/// number of rules.
#[derive(Clone, Debug)]
pub(super) struct PathTree {
    states: Vec<State>,
    /// The sets of rules that states name, each once: many states have the same.
    sets: Vec<RuleSet>,
    /// The rules without a path pattern.
    any: RuleSet,
}

#[derive(Clone, Debug, Default)]
struct State {
    next: Places,
    /// The next state after a segment that is not empty and not in `next`.
    otherwise: Option<usize>,
    /// The set of rules that a path fits where it ends here.
    here: usize,
    /// The set of rules that a path fits where it goes on and no pattern goes on with it.
    below: usize,
}

/// The automaton is larger than that of a configuration may be.
#[derive(Debug)]
pub(super) struct TooManyStates;

impl PathTree {
    /// `any` are the rules without a path pattern, `patterns` the rules with one.
    pub(super) fn build(
        any: &[usize],
        patterns: &[(usize, &PathPattern)],
    ) -> Result<Self, TooManyStates> {
        let mut sets = Sets::default();
        Ok(Self {
            states: determinise(&Trie::build(patterns), any, &mut sets)?,
            sets: sets.all,
            any: RuleSet::of(any.iter().copied()),
        })
    }

    /// The rules whose pattern `path` fits, and the rules without a path pattern.
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
                None => return self.set(state.below),
            }
        }
        self.set(state.here)
    }

    fn set(&self, place: usize) -> &RuleSet {
        self.sets.get(place).unwrap_or(&self.any)
    }
}

/// The patterns as a tree of segments. One path may fit two branches at once.
#[derive(Debug, Default)]
struct Trie {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    literal: Places,
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
                    Some(text) => place(&mut node.literal, &text, fresh),
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

/// The segments of a path that begins with a slash. An empty path has no segments.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').skip(1)
}

/// The nodes of the trie at which a path is, and the rules whose prefix it has passed.
type Place = (Vec<usize>, Vec<usize>);

/// Bytes that are the same for the same place only.
fn key((nodes, passed): &Place) -> Vec<u8> {
    let numbers = [nodes.len()].into_iter().chain(nodes.iter().copied());
    bytes(numbers.chain(passed.iter().copied()))
}

fn bytes(numbers: impl Iterator<Item = usize>) -> Vec<u8> {
    numbers.flat_map(usize::to_le_bytes).collect()
}

/// Sets of rules, each once.
#[derive(Default)]
struct Sets {
    known: Places,
    all: Vec<RuleSet>,
}

impl Sets {
    /// The place of the set of these rules and of `any`.
    fn place(&mut self, mut rules: Vec<usize>, any: &[usize]) -> usize {
        rules.sort_unstable();
        rules.dedup();
        let key = bytes(rules.iter().copied());
        let found = place(&mut self.known, &key, self.all.len());
        if found == self.all.len() {
            rules.extend(any);
            self.all.push(RuleSet::of(rules));
        }
        found
    }
}

/// Makes one state of each set of nodes at which a path can be at once.
#[inline(never)]
fn determinise(trie: &Trie, any: &[usize], sets: &mut Sets) -> Result<Vec<State>, TooManyStates> {
    let mut known = Places::default();
    let mut places: Vec<Place> = Vec::new();
    let mut parts = 0;
    let mut visit = |nodes: Vec<usize>, passed: &[usize], places: &mut Vec<Place>| {
        let mut passed = passed.to_vec();
        passed.extend(trie.get(&nodes).flat_map(|node| &node.prefix));
        passed.sort_unstable();
        passed.dedup();
        let new = (nodes, passed);
        let state = place(&mut known, &key(&new), places.len());
        if state == places.len() {
            parts += new.0.len() + new.1.len();
            if state == MAX_STATES || parts > MAX_PARTS {
                return Err(TooManyStates);
            }
            places.push(new);
        }
        Ok(state)
    };

    visit(vec![0], &[], &mut places)?;
    let mut states = Vec::new();
    while let Some((nodes, passed)) = places.get(states.len()).cloned() {
        let variables: Vec<_> = trie.get(&nodes).filter_map(|node| node.variable).collect();
        let mut literals: ByteMap<Vec<usize>> = ByteMap::default();
        for (text, child) in trie.get(&nodes).flat_map(|node| &node.literal) {
            literals.change(text, Vec::new, |children| children.push(*child));
        }
        let mut next = Places::default();
        for (text, children) in literals.iter() {
            let mut children = children.clone();
            if !text.is_empty() {
                children.extend(&variables);
            }
            let state = visit(children, &passed, &mut places)?;
            place(&mut next, text, state);
        }
        let otherwise = match variables.is_empty() {
            true => None,
            false => Some(visit(variables, &passed, &mut places)?),
        };
        let whole = trie.get(&nodes).flat_map(|node| &node.whole);
        states.push(State {
            next,
            otherwise,
            here: sets.place(whole.chain(&passed).copied().collect(), any),
            below: sets.place(passed, any),
        });
    }
    Ok(states)
}
