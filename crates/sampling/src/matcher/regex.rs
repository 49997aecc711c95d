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

/// The steps that all expressions of a configuration may take to be built: a worker answers no
/// request meanwhile. One is a byte of a state's description, seen for one class of bytes. Measured
/// in Envoy 1.40: at most about 150 ms for all (counted repetitions in one another).
const MAX_STEPS: usize = 8_000_000;
/// The longest expression, in bytes: a longer one is not read at all.
const MAX_PATTERN: usize = 4096;
/// What a byte of an expression costs: it is read twice.
const STEPS_PER_BYTE: usize = 50;
/// What a byte of the nondeterministic automaton costs.
const STEPS_PER_NFA_BYTE: usize = 4;
/// What is tried first. Most expressions take less.
const FIRST_TRY: usize = MAX_STEPS / 512;
/// What one of several expressions may take, where not all fit into one automaton.
const MAX_OF_ONE: usize = MAX_STEPS / 16;
/// So many are looked at one by one then: it is the quicker way to find the one that is to blame.
const MAX_SINGLES: usize = 64;

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
    /// All together are too large: there is no room for this rule's, and those after it.
    Groups(usize),
}

/// One automaton of these expressions is.
struct TooLarge;

/// What is left of [`MAX_STEPS`].
struct Budget(usize);

impl Budget {
    fn spend(&mut self, steps: usize) {
        self.0 = self.0.saturating_sub(steps);
    }
}

impl Regexes {
    #[inline(never)]
    pub(super) fn build(patterns: &[(usize, &str)]) -> Result<Self, Refusal> {
        let mut regexes = Self::default();
        match regexes.add_all(patterns) {
            Err(Refusal::Groups(rule)) if patterns.len() == 1 => {
                Err(Refusal::Pattern(rule, too_large()))
            }
            added => added.map(|()| regexes),
        }
    }

    fn add_all(&mut self, patterns: &[(usize, &str)]) -> Result<(), Refusal> {
        let mut budget = Budget(MAX_STEPS);
        for (rule, pattern) in patterns {
            if pattern.len() > MAX_PATTERN {
                let length = pattern.len();
                let refusal = format!(
                    "too long: {length} bytes, expected at most {MAX_PATTERN}, or `prefix` or `template` in its place"
                );
                return Err(Refusal::Pattern(*rule, refusal));
            }
            budget.spend(pattern.len().saturating_mul(STEPS_PER_BYTE));
            if budget.0 == 0 {
                return Err(Refusal::Groups(*rule));
            }
            syntax::parse_with(pattern, &syntax_config())
                .map_err(|error| Refusal::Pattern(*rule, not_a_regex(&error)))?;
        }
        self.add(patterns, patterns.len(), &mut budget)
    }

    fn add(
        &mut self,
        patterns: &[(usize, &str)],
        all: usize,
        budget: &mut Budget,
    ) -> Result<(), Refusal> {
        let Some((first, _)) = patterns.first() else {
            return Ok(());
        };
        let texts: Vec<_> = patterns.iter().map(|(_, text)| *text).collect();
        if let Ok(dfa) = automaton(&texts, budget) {
            if self.groups.len() == MAX_GROUPS {
                return Err(Refusal::Groups(*first));
            }
            let rules = patterns.iter().map(|(rule, _)| RuleSet::of([*rule]));
            self.groups.push(Group {
                dfa,
                rules: rules.collect(),
            });
            return Ok(());
        }
        if self.groups.is_empty() && patterns.len() == all && all <= MAX_SINGLES {
            Self::blame(patterns, budget)?;
        }
        // What takes a product of its parts to build together takes a sum of them one by one.
        match patterns.split_at_checked(patterns.len() / 2) {
            Some((one, other)) if !one.is_empty() && budget.0 > FIRST_TRY => {
                self.add(one, all, budget)?;
                self.add(other, all, budget)
            }
            _ => Err(Refusal::Groups(*first)),
        }
    }

    /// Names the expression that takes more than its part, when there is one.
    fn blame(patterns: &[(usize, &str)], budget: &mut Budget) -> Result<(), Refusal> {
        for (rule, pattern) in patterns {
            let lent = MAX_OF_ONE.min(budget.0);
            let mut own = Budget(lent);
            let built = automaton(&[*pattern], &mut own);
            budget.spend(lent - own.0);
            built.map_err(|_| Refusal::Groups(*rule))?;
        }
        Ok(())
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
fn automaton(patterns: &[&str], budget: &mut Budget) -> Result<dense::DFA<Vec<u32>>, TooLarge> {
    let nfa = nfa(patterns);
    let bytes = nfa.as_ref().map_or(MAX_BYTES, thompson::NFA::memory_usage);
    budget.spend(bytes * STEPS_PER_NFA_BYTE);
    let nfa = nfa?;
    let classes = nfa.byte_classes().alphabet_len();
    let mut steps = FIRST_TRY;
    // The last try spends half of what is left: the rest is for tries with fewer expressions.
    while budget.0 > 0 {
        let limit = (budget.0 / 2).max(FIRST_TRY);
        let last = steps >= limit;
        steps = steps.min(limit).min(budget.0);
        budget.spend(steps);
        // All matches, not the first one: what fits the whole path must not be hidden by what fits
        // its beginning.
        let config = dense::Config::new()
            .match_kind(MatchKind::All)
            .start_kind(StartKind::Anchored)
            .dfa_size_limit(Some(MAX_BYTES))
            .determinize_size_limit(Some(MAX_BYTES.min(steps / classes)));
        let built = dense::Builder::new().configure(config).build_from_nfa(&nfa);
        match built {
            Ok(dfa) => return Ok(dfa),
            Err(_) if last => break,
            Err(_) => steps *= 4,
        }
    }
    Err(TooLarge)
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
    format!(
        "too large: its automaton has more than {MAX_BYTES} bytes, or takes too long to build; expected no counted \
         repetition or alternative after `.*`, or `prefix` or `template` in its place"
    )
}
