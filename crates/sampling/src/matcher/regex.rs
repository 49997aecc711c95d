//! Paths by regular expressions. The automata are built completely before the first request.

use core::fmt;

use arrayvec::ArrayVec;
use meshtrace_config::{ConfigError, Mistakes};
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};

use super::set::RuleSet;
use super::steps::Steps;

/// The size limit of one automaton, in bytes.
pub(crate) const MAX_BYTES: usize = 512 * 1024;
/// The most automata of a configuration. Patterns that do not fit into one automaton together are
/// divided among several.
pub(crate) const MAX_GROUPS: usize = 8;

/// The most steps in which all expressions of a configuration may be built. A worker answers no
/// request during that time. One step is a byte of a state's description, for one class of bytes.
/// Building all of them takes at most about 150 ms, measured in Envoy 1.40 with counted repetitions
/// inside one another.
const MAX_STEPS: usize = 8_000_000;
/// The longest expression, in bytes. A longer expression is refused before it is parsed.
const MAX_PATTERN: usize = 4096;
/// The steps that a byte of an expression costs. Each expression is parsed twice.
const STEPS_PER_BYTE: usize = 50;
/// The steps that a byte of the nondeterministic automaton costs.
const STEPS_PER_NFA_BYTE: usize = 4;
/// The steps of the first try. Most expressions need fewer steps.
const FIRST_TRY: usize = MAX_STEPS / 512;
/// The most steps of one expression, where several expressions do not fit into one automaton.
const MAX_OF_ONE: usize = MAX_STEPS / 16;
/// Up to this number, expressions that do not fit together are tried one by one. That is the
/// quicker way to find the expression that is too large.
const MAX_SINGLES: usize = 64;

/// The expressions of all rules. The look-up of a path takes one step for each byte and group.
#[derive(Clone, Default)]
pub(crate) struct Regexes {
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
    /// The rules of each pattern.
    rules: Vec<RuleSet>,
}

/// Why expressions are refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The expressions of these rules are not valid, or too large.
    Patterns(Vec<(usize, String)>),
    /// All expressions together are too large: the one of this rule and those after it have no
    /// room.
    Groups(usize),
}

impl From<Refusal> for ConfigError {
    fn from(refusal: Refusal) -> Self {
        let patterns = match refusal {
            Refusal::Patterns(patterns) => patterns,
            Refusal::Groups(rule) => {
                return Self::new(
                    "rules",
                    format!(
                        "the regular expressions are too large together: there is no room for \
                         rules[{rule}].match.path.regex; expected fewer, more of them as prefix or \
                         template, and few that begin with `.*`"
                    ),
                );
            }
        };
        let mut mistakes = Mistakes::default();
        for (rule, reason) in patterns {
            let path = format!("rules[{rule}].match.path.regex");
            mistakes.add(Self::new(path, reason));
        }
        mistakes
            .end()
            .err()
            .unwrap_or_else(|| Self::new("rules", ""))
    }
}

/// One automaton of these expressions is too large.
struct TooLarge;

/// The number of steps that are left of [`MAX_STEPS`].
struct Budget(usize);

impl Budget {
    fn spend(&mut self, steps: usize) {
        self.0 = self.0.saturating_sub(steps);
    }
}

impl Regexes {
    #[inline(never)]
    pub(crate) fn build(patterns: &[(usize, &str)]) -> Result<Self, Refusal> {
        let mut regexes = Self::default();
        match regexes.add_all(patterns) {
            Err(Refusal::Groups(rule)) if patterns.len() == 1 => {
                Err(Refusal::Patterns(vec![(rule, too_large())]))
            }
            added => added.map(|()| regexes),
        }
    }

    fn add_all(&mut self, patterns: &[(usize, &str)]) -> Result<(), Refusal> {
        let mut budget = Budget(MAX_STEPS);
        let mut refused = Vec::new();
        for (rule, pattern) in patterns {
            if pattern.len() > MAX_PATTERN {
                let length = pattern.len();
                let refusal = format!(
                    "too long: {length} bytes, expected at most {MAX_PATTERN}, or `prefix` or `template` in its place"
                );
                refused.push((*rule, refusal));
                continue;
            }
            budget.spend(pattern.len().saturating_mul(STEPS_PER_BYTE));
            if budget.0 == 0 {
                return Err(Refusal::Groups(*rule));
            }
            if let Err(error) = syntax::parse_with(pattern, &syntax_config()) {
                refused.push((*rule, not_a_regex(&error)));
            }
        }
        if !refused.is_empty() {
            return Err(Refusal::Patterns(refused));
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
        // Together, expressions can take the product of their sizes; apart, they take the sum.
        match patterns.split_at_checked(patterns.len() / 2) {
            Some((one, other)) if !one.is_empty() && budget.0 > FIRST_TRY => {
                self.add(one, all, budget)?;
                self.add(other, all, budget)
            }
            _ => Err(Refusal::Groups(*first)),
        }
    }

    /// Returns an error with the rule whose expression takes more than [`MAX_OF_ONE`], where there
    /// is one.
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

/// Expressions match bytes, with the classes of ASCII. So the module needs no tables of Unicode.
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
    // The last try spends half of the steps that are left. The rest is for tries with fewer
    // expressions.
    while budget.0 > 0 {
        let limit = (budget.0 / 2).max(FIRST_TRY);
        let last = steps >= limit;
        steps = steps.min(limit).min(budget.0);
        budget.spend(steps);
        // All matches are searched, not the first one: a match of the beginning of the path must
        // not hide a match of the whole path.
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

/// Of the parser's text, the last line is the reason. The lines before it are a drawing.
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
