//! Finds an expression in a text, with its groups: all ways at once, in the order in which they are
//! preferred ("Regular Expression Matching: the Virtual Machine Approach", Cox, 2009).

use core::fmt;

use crate::look::Side;
use crate::parse::{Alphabet, SyntaxError, parse};
use crate::program::{Compiler, Op, Place, Program};

/// An expression that is looked for in texts.
#[derive(Debug)]
pub struct Regex {
    program: Program,
    /// Of the groups, without the first: the first is the whole.
    names: Vec<Option<Box<str>>>,
}

/// Why an expression is not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is none.
    Syntax(SyntaxError),
    /// It has more steps than it may.
    TooLong,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(error) => error.fmt(f),
            Self::TooLong => f.write_str("too long with its repetitions written out"),
        }
    }
}

impl core::error::Error for Refusal {}

/// Working memory of searches, one after the other, for any [`Regex`], and the groups that the last
/// one found. [`Memory::fit`] makes room before the first search.
#[derive(Debug, Default)]
pub struct Memory {
    found: Vec<Slot>,
    now: Threads,
    next: Threads,
    /// The groups of the thread that is being followed.
    slots: Vec<Slot>,
    to_do: Vec<ToDo>,
}

/// A search would take more work than it may, or memory that there is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// A place in the text, in bytes. A group that was not met has [`NONE`].
type Slot = u32;
const NONE: Slot = Slot::MAX;

/// Threads in the order in which they are preferred, at most one at each step.
#[derive(Debug, Default)]
struct Threads {
    places: Vec<Place>,
    /// For each step, its place in `places`, where `places` has it there.
    known: Vec<usize>,
    /// The groups of the thread at each step.
    slots: Vec<Slot>,
    groups: usize,
}

#[derive(Debug)]
enum ToDo {
    Follow(Place),
    /// The slot has this value again for what was put off before.
    Restore(usize, Slot),
}

impl Regex {
    /// Compiles `pattern`. It may have at most `steps` steps.
    ///
    /// # Errors
    ///
    /// Where it is no expression, or has more steps.
    pub fn new(pattern: &str, steps: usize) -> Result<Self, Refusal> {
        let parsed = parse(pattern, Alphabet::Text).map_err(Refusal::Syntax)?;
        let mut compiler = Compiler::new(steps, true);
        compiler.add(&parsed).map_err(|_| Refusal::TooLong)?;
        Ok(Self {
            program: compiler.end(),
            names: parsed.names,
        })
    }

    /// The number of groups. The first one, 0, is the whole.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.names.len() + 1
    }

    /// The number of the group with this name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<usize> {
        let named = |other: &Option<Box<str>>| other.as_deref() == Some(name);
        Some(self.names.iter().position(named)? + 1)
    }

    /// The number of steps.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.program.ops.len()
    }

    /// The first place in `text` from `at` on where the expression fits, its beginning and its end.
    /// The groups are in `memory` then.
    ///
    /// `work` is what the search may take, in units, and then what is left of it. Each character
    /// takes a unit, and each thread that is there one more, and one more for every
    /// [`SLOTS_PER_UNIT`] places of groups that it has.
    ///
    /// # Errors
    ///
    /// Where `work` is used up, or there is no memory.
    #[inline(never)]
    pub fn find(
        &self,
        memory: &mut Memory,
        text: &str,
        at: usize,
        work: &mut usize,
    ) -> Result<Option<(usize, usize)>, Exhausted> {
        memory.fit(self)?;
        memory.found.fill(NONE);
        memory.now.clear();
        let Some((before, rest)) = text.split_at_checked(at) else {
            return Ok(None);
        };
        let per_thread = 1 + memory.now.groups / SLOTS_PER_UNIT;
        let mut before = Side::of(before.chars().next_back().map(u32::from));
        let mut chars = rest.chars();
        let mut at = at;
        let mut is_found = false;
        loop {
            let char = chars.next().map(u32::from);
            let behind = Side::of(char);
            if !is_found {
                memory.slots.fill(NONE);
                let start = self.program.starts.first().copied().unwrap_or_default();
                memory.follow(&self.program, start, at, before, behind);
            }
            if is_found && memory.now.places.is_empty() {
                break;
            }
            let taken = 1 + memory.now.places.len() * per_thread;
            *work = work.checked_sub(taken).ok_or(Exhausted)?;
            memory.next.clear();
            let Some(char) = char else {
                is_found |= memory.is_match(&self.program).is_some();
                break;
            };
            let after = at + char::from_u32(char).map_or(1, char::len_utf8);
            let following = Side::of(chars.clone().next().map(u32::from));
            let matched = memory.is_match(&self.program);
            is_found |= matched.is_some();
            memory.step(&self.program, char, matched, after, behind, following);
            before = behind;
            at = after;
        }
        Ok(memory.group(0).filter(|_| is_found))
    }
}

/// So many places of groups are copied in about the time of one step of a thread.
const SLOTS_PER_UNIT: usize = 8;

impl Memory {
    /// Makes room for searches for `regex`: those for others still have theirs.
    ///
    /// # Errors
    ///
    /// Where there is no memory.
    pub fn fit(&mut self, regex: &Regex) -> Result<(), Exhausted> {
        let steps = regex.steps();
        let groups = regex.groups() * 2;
        for list in [&mut self.found, &mut self.slots] {
            list.truncate(groups);
            lengthen(list, groups, NONE)?;
        }
        reserve(&mut self.to_do, steps * 2)?;
        self.now.fit(steps, groups)?;
        self.next.fit(steps, groups)
    }

    /// The beginning and the end of a group that the last search found.
    #[must_use]
    pub fn group(&self, group: usize) -> Option<(usize, usize)> {
        let place = |slot: usize| {
            let there = self.found.get(slot).filter(|there| **there != NONE)?;
            usize::try_from(*there).ok()
        };
        Some((place(group * 2)?, place(group * 2 + 1)?))
    }

    /// The first thread that is at the end of the expression. Its groups are what was found.
    fn is_match(&mut self, program: &Program) -> Option<usize> {
        let is_match = |place: &Place| matches!(program.op(*place), Some(Op::Match(_)));
        let matched = self.now.places.iter().position(is_match)?;
        let place = self.now.places.get(matched)?;
        copy(&mut self.found, self.now.slots_of(*place));
        Some(matched)
    }

    /// Takes each thread that is preferred to the match over `symbol`.
    fn step(
        &mut self,
        program: &Program,
        symbol: u32,
        matched: Option<usize>,
        after: usize,
        before: Side,
        behind: Side,
    ) {
        core::mem::swap(&mut self.now, &mut self.next);
        let threads = matched.unwrap_or(self.next.places.len());
        for thread in 0..threads {
            let Some(place) = self.next.places.get(thread).copied() else {
                break;
            };
            let fits = match program.op(place) {
                Some(Op::Symbol(other)) => other == symbol,
                Some(Op::Class(class)) => program
                    .classes
                    .get(class)
                    .is_some_and(|class| class.has(symbol)),
                _ => false,
            };
            if fits {
                copy(&mut self.slots, self.next.slots_of(place));
                self.follow(program, place + 1, after, before, behind);
            }
        }
    }

    /// Adds to `now` the threads that follow from `place` without a symbol.
    fn follow(&mut self, program: &Program, place: Place, at: usize, before: Side, behind: Side) {
        self.to_do.push(ToDo::Follow(place));
        while let Some(to_do) = self.to_do.pop() {
            let mut place = match to_do {
                ToDo::Restore(slot, value) => {
                    if let Some(there) = self.slots.get_mut(slot) {
                        *there = value;
                    }
                    continue;
                }
                ToDo::Follow(place) => place,
            };
            while self.now.insert(place) {
                match program.op(place) {
                    Some(Op::Split(first, second)) => {
                        self.to_do.push(ToDo::Follow(second));
                        place = first;
                    }
                    Some(Op::Goto(to)) => place = to,
                    Some(Op::Look(look)) if look.holds(before, behind) => place += 1,
                    Some(Op::Save(slot)) => {
                        if let Some(there) = self.slots.get_mut(slot) {
                            self.to_do.push(ToDo::Restore(slot, *there));
                            *there = Slot::try_from(at).unwrap_or(NONE);
                        }
                        place += 1;
                    }
                    Some(Op::Symbol(_) | Op::Class(_) | Op::Match(_)) => {
                        copy(self.now.slots_at(place), &self.slots);
                        break;
                    }
                    Some(Op::Look(_)) | None => break,
                }
            }
        }
    }
}

impl Threads {
    fn fit(&mut self, steps: usize, groups: usize) -> Result<(), Exhausted> {
        self.groups = groups;
        self.places.clear();
        reserve(&mut self.places, steps)?;
        lengthen(&mut self.known, steps, 0)?;
        lengthen(&mut self.slots, steps * groups, NONE)
    }

    fn clear(&mut self) {
        self.places.clear();
    }

    /// Whether `place` was not there.
    fn insert(&mut self, place: Place) -> bool {
        let step = usize::try_from(place).ok();
        let Some(known) = step.and_then(|step| self.known.get_mut(step)) else {
            return false;
        };
        if self.places.get(*known) == Some(&place) {
            return false;
        }
        *known = self.places.len();
        self.places.push(place);
        true
    }

    fn range(&self, place: Place) -> core::ops::Range<usize> {
        let start = usize::try_from(place).unwrap_or_default() * self.groups;
        start..start + self.groups
    }

    fn slots_of(&self, place: Place) -> &[Slot] {
        self.slots.get(self.range(place)).unwrap_or_default()
    }

    fn slots_at(&mut self, place: Place) -> &mut [Slot] {
        let range = self.range(place);
        self.slots.get_mut(range).unwrap_or_default()
    }
}

fn reserve<T>(list: &mut Vec<T>, length: usize) -> Result<(), Exhausted> {
    let more = length.saturating_sub(list.len());
    list.try_reserve_exact(more).map_err(|_| Exhausted)
}

/// Makes `list` at least that long.
fn lengthen<T: Copy>(list: &mut Vec<T>, length: usize, value: T) -> Result<(), Exhausted> {
    reserve(list, length)?;
    if list.len() < length {
        list.resize(length, value);
    }
    Ok(())
}

fn copy(to: &mut [Slot], from: &[Slot]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
