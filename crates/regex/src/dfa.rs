//! All expressions at once, over bytes: a deterministic automaton that is built completely.
//!
//! A state is the set of steps at which the expressions can be. What a step asks of the place
//! (`^`, `$`, `\b`) is answered when the next byte is known, so a state also has the kind of the
//! byte before it, where one of its steps asks.

use std::collections::BTreeMap;

use crate::look::{Look, Side};
use crate::parse::{Alphabet, SyntaxError, parse};
use crate::program::{Compiler, Op, Place, Program};

/// A state, as the place of its row in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(u32);

/// From here no expression fits any more. Its row is the first one.
const DEAD: u32 = 0;

/// The automaton of some expressions.
#[derive(Clone, Debug)]
pub struct Dfa {
    /// The column of each byte.
    columns: Box<[u8; 256]>,
    /// Rows of states: the next state for each column.
    table: Vec<u32>,
    width: u32,
    /// For each state, where its expressions begin in `fitting`; the end is where those of the next
    /// one begin.
    ends: Vec<u32>,
    fitting: Vec<u32>,
}

/// The expressions that fit where a line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends<'d>(&'d [u32]);

impl<'d> Ends<'d> {
    /// Their places in the list that the automaton was built of.
    pub fn iter(self) -> impl Iterator<Item = usize> + 'd {
        self.0
            .iter()
            .filter_map(|number| usize::try_from(*number).ok())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// The automaton would have more bytes, or take more steps to build, than it may.
#[derive(Debug)]
pub struct TooLarge;

impl Dfa {
    /// The automaton of `patterns`, each of which [`check`](crate::check) takes. It has at most
    /// `bytes` bytes, and so has what builds it. `steps` is what building may cost, and has what
    /// is left of it afterwards; a step is some nanoseconds.
    ///
    /// # Errors
    ///
    /// Where it would be larger, or an expression is none.
    #[inline(never)]
    pub fn build(patterns: &[&str], bytes: usize, steps: &mut usize) -> Result<Self, TooLarge> {
        let limit = (*steps).min(bytes / size_of::<Op>());
        let mut compiler = Compiler::new(limit, false);
        for pattern in patterns {
            let parsed = parse(pattern, Alphabet::Bytes).map_err(|_: SyntaxError| TooLarge)?;
            compiler.add(&parsed).map_err(|_| TooLarge)?;
        }
        let program = compiler.end();
        *steps = steps.saturating_sub(program.ops.len());
        Builder::new(&program, bytes, steps).build()
    }

    /// The state before the first byte.
    #[must_use]
    pub fn start(&self) -> State {
        State(self.width)
    }

    /// The state after `byte`.
    #[must_use]
    pub fn next(&self, state: State, byte: u8) -> State {
        let column = self
            .columns
            .get(usize::from(byte))
            .copied()
            .unwrap_or_default();
        let cell = usize::try_from(state.0 + u32::from(column)).ok();
        State(
            cell.and_then(|cell| self.table.get(cell))
                .copied()
                .unwrap_or(DEAD),
        )
    }

    /// Whether no expression fits, whatever follows.
    #[must_use]
    pub fn is_dead(&self, state: State) -> bool {
        state.0 == DEAD
    }

    /// The expressions that fit where the line ends in `state`.
    #[must_use]
    pub fn ends(&self, state: State) -> Ends<'_> {
        let number = state.0.checked_div(self.width).unwrap_or_default();
        let end = |number: u32| {
            let end = self.ends.get(usize::try_from(number).ok()?)?;
            usize::try_from(*end).ok()
        };
        let range = end(number).zip(end(number + 1));
        let fitting = range.and_then(|(from, to)| self.fitting.get(from..to));
        Ends(fitting.unwrap_or_default())
    }
}

/// What a step takes, with the columns as bits.
#[derive(Clone, Copy)]
enum Taken {
    Columns([u64; 4]),
    Nothing,
}

/// The byte of each side with which the columns of a table differ, and their number.
struct Columns {
    of: Box<[u8; 256]>,
    /// The kind of the bytes of each column.
    sides: Vec<Side>,
}

impl Columns {
    /// Bytes that no expression tells from one another share a column.
    fn of(program: &Program) -> Self {
        let mut begins = [false; 257];
        let mut begin = |place: u32| {
            let place = usize::try_from(place).ok();
            if let Some(there) = place.and_then(|place| begins.get_mut(place)) {
                *there = true;
            }
        };
        let mut asks = false;
        for op in &program.ops {
            match op {
                Op::Symbol(symbol) => {
                    begin(*symbol);
                    begin(symbol + 1);
                }
                Op::Look(look) => asks |= !matches!(look, Look::Start | Look::End),
                _ => (),
            }
        }
        for (from, to) in program.classes.iter().flat_map(|class| class.ranges()) {
            begin(*from);
            begin(to + 1);
        }
        let mut of = Box::new([0; 256]);
        let mut sides: Vec<Side> = Vec::new();
        for ((column, byte), begins) in of.iter_mut().zip(0_u32..).zip(begins) {
            let side = match asks {
                true => Side::of(Some(byte)),
                false => Side::Other,
            };
            if begins || sides.last() != Some(&side) {
                sides.push(side);
            }
            *column = u8::try_from(sides.len() - 1).unwrap_or(u8::MAX);
        }
        Self { of, sides }
    }

    fn bits(&self, has: impl Fn(u32) -> bool) -> [u64; 4] {
        let mut bits = [0; 4];
        for (column, byte) in self.of.iter().zip(0_u32..) {
            if has(byte)
                && let Some(word) = bits.get_mut(usize::from(column / 64))
            {
                *word |= 1 << (column % 64);
            }
        }
        bits
    }
}

struct Builder<'b> {
    program: &'b Program,
    /// What each step takes.
    taken: Vec<Taken>,
    columns: Columns,
    bytes: usize,
    steps: &'b mut usize,
    /// The rows of the states that are known, by their keys.
    known: BTreeMap<Box<[Place]>, u32>,
    keys: Vec<Box<[Place]>>,
    /// The number of the search that met each step last.
    met: Vec<u32>,
    search: u32,
}

impl<'b> Builder<'b> {
    fn new(program: &'b Program, bytes: usize, steps: &'b mut usize) -> Self {
        let columns = Columns::of(program);
        let of_classes: Vec<_> = program
            .classes
            .iter()
            .map(|class| columns.bits(|byte| class.has(byte)))
            .collect();
        let of_op = |op: &Op| match op {
            Op::Symbol(symbol) => Taken::Columns(columns.bits(|byte| byte == *symbol)),
            Op::Class(class) => of_classes
                .get(*class)
                .map_or(Taken::Nothing, |bits| Taken::Columns(*bits)),
            _ => Taken::Nothing,
        };
        let taken = program.ops.iter().map(of_op).collect();
        Self {
            program,
            taken,
            columns,
            bytes,
            steps,
            known: BTreeMap::new(),
            keys: Vec::new(),
            met: vec![0; program.ops.len()],
            search: 0,
        }
    }

    fn build(mut self) -> Result<Dfa, TooLarge> {
        let width = u32::try_from(self.columns.sides.len()).map_err(|_| TooLarge)?;
        let mut table = Vec::new();
        let mut ends = vec![0];
        let mut fitting = Vec::new();
        // The dead state: no step.
        self.state(Vec::new(), Side::Other)?;
        let mut first = Vec::new();
        self.begin();
        for start in &self.program.starts {
            self.follow(*start, None, &mut first)?;
        }
        self.state(first, Side::None)?;
        while let Some(key) = self.keys.get(ends.len() - 1).cloned() {
            let (before, places) = Self::read(&key);
            let mut here: [Option<Vec<Place>>; 4] = [const { None }; 4];
            for column in 0..self.columns.sides.len() {
                let side = self
                    .columns
                    .sides
                    .get(column)
                    .copied()
                    .unwrap_or(Side::Other);
                let next = self.next(places, before, side, column, &mut here)?;
                table.push(next * width);
            }
            let at_end = self.resolved(places, before, Side::None)?;
            for place in at_end {
                if let Some(Op::Match(number)) = self.program.op(place) {
                    fitting.push(number);
                }
            }
            ends.push(u32::try_from(fitting.len()).map_err(|_| TooLarge)?);
            let size = (table.len() + fitting.len() + ends.len()) * size_of::<u32>();
            if size > self.bytes {
                return Err(TooLarge);
            }
        }
        Ok(Dfa {
            columns: self.columns.of,
            table,
            width,
            ends,
            fitting,
        })
    }

    fn spend(&mut self, steps: usize) -> Result<(), TooLarge> {
        *self.steps = self.steps.checked_sub(steps).ok_or(TooLarge)?;
        Ok(())
    }

    /// A search that has met no step yet.
    fn begin(&mut self) {
        self.search = self.search.wrapping_add(1);
    }

    /// The number of the state after a byte of `column`.
    fn next(
        &mut self,
        places: &[Place],
        before: Side,
        behind: Side,
        column: usize,
        here: &mut [Option<Vec<Place>>; 4],
    ) -> Result<u32, TooLarge> {
        let kind = Side::ALL.iter().position(|side| *side == behind);
        let Some(here) = kind.and_then(|kind| here.get_mut(kind)) else {
            return Ok(DEAD);
        };
        let resolved = match here {
            Some(here) => here,
            None => here.insert(self.resolved(places, before, behind)?),
        };
        self.spend(resolved.len() + 1)?;
        let mut next = Vec::new();
        self.begin();
        for place in resolved {
            if self.takes(*place, column) {
                self.follow(*place + 1, None, &mut next)?;
            }
        }
        self.state(next, behind)
    }

    fn takes(&self, place: Place, column: usize) -> bool {
        let taken = usize::try_from(place)
            .ok()
            .and_then(|place| self.taken.get(place));
        match taken {
            Some(Taken::Columns(bits)) => bits
                .get(column / 64)
                .is_some_and(|word| word & (1 << (column % 64)) != 0),
            _ => false,
        }
    }

    /// The steps of a state once both sides of its place are known.
    fn resolved(
        &mut self,
        places: &[Place],
        before: Side,
        behind: Side,
    ) -> Result<Vec<Place>, TooLarge> {
        if !places.iter().any(|place| self.asks(*place)) {
            return Ok(places.to_vec());
        }
        let mut resolved = Vec::new();
        self.begin();
        for place in places {
            self.follow(*place, Some((before, behind)), &mut resolved)?;
        }
        Ok(resolved)
    }

    fn asks(&self, place: Place) -> bool {
        matches!(self.program.op(place), Some(Op::Look(_)))
    }

    /// Adds to `found` the steps that follow from `place` without a byte: those that take one,
    /// those at an end, and, where the sides are not known, those that ask for them.
    fn follow(
        &mut self,
        place: Place,
        sides: Option<(Side, Side)>,
        found: &mut Vec<Place>,
    ) -> Result<(), TooLarge> {
        let mut to_do = vec![place];
        while let Some(place) = to_do.pop() {
            let met = usize::try_from(place).ok();
            let Some(met) = met.and_then(|place| self.met.get_mut(place)) else {
                continue;
            };
            if core::mem::replace(met, self.search) == self.search {
                continue;
            }
            self.spend(1)?;
            match (self.program.op(place), sides) {
                (Some(Op::Split(first, second)), _) => to_do.extend([first, second]),
                (Some(Op::Goto(to)), _) => to_do.push(to),
                (Some(Op::Save(_)), _) => to_do.push(place + 1),
                (Some(Op::Look(look)), Some((before, behind))) => {
                    if look.holds(before, behind) {
                        to_do.push(place + 1);
                    }
                }
                (Some(_), _) => found.push(place),
                (None, _) => (),
            }
        }
        Ok(())
    }

    /// The number of the state with these steps.
    fn state(&mut self, mut places: Vec<Place>, before: Side) -> Result<u32, TooLarge> {
        // It is put in order, and compared with some that are known.
        self.spend(places.len() * 2)?;
        places.sort_unstable();
        let before = match places.iter().any(|place| self.asks(*place)) {
            true => before,
            false => Side::Other,
        };
        let kind = Side::ALL.iter().position(|side| *side == before);
        places.push(
            kind.and_then(|kind| Place::try_from(kind).ok())
                .unwrap_or_default(),
        );
        if let Some(state) = self.known.get(&*places) {
            return Ok(*state);
        }
        let key = places.into_boxed_slice();
        let size = size_of_val(&*key) * 2 + size_of::<Box<[Place]>>() * 2;
        self.bytes = self.bytes.checked_sub(size).ok_or(TooLarge)?;
        let state = u32::try_from(self.keys.len()).map_err(|_| TooLarge)?;
        self.known.insert(key.clone(), state);
        self.keys.push(key);
        Ok(state)
    }

    /// The kind of the byte before, and the steps, of a state's key.
    fn read(key: &[Place]) -> (Side, &[Place]) {
        let Some((kind, places)) = key.split_last() else {
            return (Side::Other, &[]);
        };
        let kind = usize::try_from(*kind).ok();
        let before = kind.and_then(|kind| Side::ALL.get(kind)).copied();
        (before.unwrap_or(Side::Other), places)
    }
}
