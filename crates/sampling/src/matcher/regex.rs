//! Paths by regular expressions: automata that are complete before the first request.

use core::fmt;

use arrayvec::ArrayVec;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};

use super::set::RuleSet;
use super::steps::Steps;

/// One automaton's size limit, in bytes.
pub(crate) const MAX_BYTES: usize = 512 * 1024;
/// Most automata that a configuration makes: patterns that would not fit into one together are
/// split up.
pub(crate) const MAX_GROUPS: usize = 8;

/// The expressions of all rules. Looking a path up takes one step a byte and group.
#[derive(Clone, Default)]
pub(super) struct Regexes {
    groups: Vec<Group>,
}

impl fmt::Debug for Regexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns = self.groups.iter().map(|group| &group.rules);
        f.debug_list().entries(patterns).finish()
    }
}

#[derive(Clone)]
struct Group {
    dfa: dense::DFA<Vec<u32>>,
    /// By pattern.
    rules: Vec<RuleSet>,
}

/// Why expressions are refused.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The expression of this rule is none, or too large.
    Pattern(usize, String),
    /// All together are too large.
    Groups,
}

/// One automaton of these expressions is.
struct TooLarge;

impl Regexes {
    #[inline(never)]
    pub(super) fn build(patterns: &[(usize, &str)]) -> Result<Self, Refusal> {
        let mut regexes = Self::default();
        if patterns.is_empty() {
            return Ok(regexes);
        }
        for (rule, pattern) in patterns {
            syntax::parse_with(pattern, &syntax_config())
                .map_err(|error| Refusal::Pattern(*rule, not_a_regex(&error)))?;
        }
        regexes.add(patterns)?;
        Ok(regexes)
    }

    fn add(&mut self, patterns: &[(usize, &str)]) -> Result<(), Refusal> {
        let texts: Vec<_> = patterns.iter().map(|(_, text)| *text).collect();
        match automaton(&texts) {
            Ok(_) if self.groups.len() == MAX_GROUPS => Err(Refusal::Groups),
            Ok(dfa) => {
                let rules = patterns.iter().map(|(rule, _)| RuleSet::of([*rule]));
                self.groups.push(Group {
                    dfa,
                    rules: rules.collect(),
                });
                Ok(())
            }
            Err(_) => match patterns {
                [(rule, _)] => Err(Refusal::Pattern(*rule, too_large())),
                _ => {
                    let (one, other) = patterns
                        .split_at_checked(patterns.len() / 2)
                        .unwrap_or_default();
                    self.add(one)?;
                    self.add(other)
                }
            },
        }
    }

    /// The expressions that the whole of `path` fits.
    pub(super) fn matching(&self, path: &[u8], steps: &mut impl Steps) -> Matching<'_> {
        let ends = self.groups.iter().map(|group| group.end(path, steps));
        Matching {
            groups: &self.groups,
            ends: ends.collect(),
        }
    }
}

impl Group {
    fn end(&self, path: &[u8], steps: &mut impl Steps) -> Option<StateID> {
        let start = start::Config::new().anchored(Anchored::Yes);
        let mut state = self.dfa.start_state(&start).ok()?;
        for byte in path {
            steps.step();
            state = self.dfa.next_state(state, *byte);
            if self.dfa.is_special_state(state) && self.dfa.is_dead_state(state) {
                return None;
            }
        }
        let end = self.dfa.next_eoi_state(state);
        self.dfa.is_match_state(end).then_some(end)
    }
}

/// The expressions that one path fits.
#[derive(Clone)]
pub(super) struct Matching<'r> {
    groups: &'r [Group],
    ends: ArrayVec<Option<StateID>, MAX_GROUPS>,
}

impl<'r> Matching<'r> {
    fn rules(&self) -> impl Iterator<Item = &'r RuleSet> {
        let groups = self.groups.iter().zip(&self.ends);
        groups
            .filter_map(|(group, end)| Some((group, (*end)?)))
            .flat_map(|(group, end)| {
                (0..group.dfa.match_len(end))
                    .map(move |i| group.dfa.match_pattern(end, i))
                    .filter_map(|pattern| group.rules.get(pattern.as_usize()))
            })
    }

    pub(super) fn summary(&self) -> u64 {
        self.rules().fold(0, |all, set| all | set.summary())
    }

    pub(super) fn word(&self, index: u32) -> u64 {
        self.rules().fold(0, |all, set| all | set.word(index))
    }
}

/// Bytes, and the classes of ASCII: no tables of Unicode in the module.
fn syntax_config() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

#[inline(never)]
fn automaton(patterns: &[&str]) -> Result<dense::DFA<Vec<u32>>, TooLarge> {
    // All matches, not the first one: what fits the whole path must not be hidden by what fits its
    // beginning.
    let config = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(StartKind::Anchored)
        .dfa_size_limit(Some(MAX_BYTES))
        .determinize_size_limit(Some(MAX_BYTES));
    let nfa = nfa(patterns)?;
    dense::Builder::new()
        .configure(config)
        .build_from_nfa(&nfa)
        .map_err(|_| TooLarge)
}

#[inline(never)]
fn nfa(patterns: &[&str]) -> Result<thompson::NFA, TooLarge> {
    let config = thompson::Config::new()
        .which_captures(thompson::WhichCaptures::None)
        .nfa_size_limit(Some(MAX_BYTES));
    thompson::Compiler::new()
        .configure(config)
        .syntax(syntax_config())
        .build_many(patterns)
        .map_err(|_| TooLarge)
}

/// The first line of what the parser says is the sentence, the rest a drawing.
fn not_a_regex(error: &impl fmt::Display) -> String {
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default();
    format!("not a regular expression of RE2's kind: {reason}")
}

fn too_large() -> String {
    format!("too large: its automaton has more than {MAX_BYTES} bytes; expected fewer repetitions")
}
