//! An expression as the steps of a nondeterministic automaton.

use crate::class::Class;
use crate::look::Look;
use crate::parse::{Node, Parsed};

/// A place in [`Program::ops`].
pub(crate) type Place = u32;

/// One step. Where it names no place, the next one follows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Symbol(u32),
    /// The place of the class in [`Program::classes`].
    Class(usize),
    Look(Look),
    /// Either place, the first one preferred.
    Split(Place, Place),
    Goto(Place),
    /// The place in the text is an end of a group.
    Save(usize),
    /// The expression of this number fits.
    Match(u32),
}

/// The expressions of one automaton, each from its own start on.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) ops: Vec<Op>,
    pub(crate) classes: Vec<Class>,
    pub(crate) starts: Vec<Place>,
}

/// The program has more steps than it may.
#[derive(Debug)]
pub(crate) struct TooLong;

/// Adds expressions to a program.
pub(crate) struct Compiler {
    program: Program,
    /// Where the classes of the present expression begin.
    classes: usize,
    with_groups: bool,
    /// How many nodes may still be visited, and so how many steps there can be.
    left: usize,
}

impl Compiler {
    /// For at most `limit` steps.
    pub(crate) fn new(limit: usize, with_groups: bool) -> Self {
        Self {
            program: Program::default(),
            classes: 0,
            with_groups,
            left: limit,
        }
    }

    #[inline(never)]
    pub(crate) fn add(&mut self, parsed: &Parsed) -> Result<(), TooLong> {
        self.classes = self.program.classes.len();
        self.program.classes.extend_from_slice(&parsed.classes);
        let number = u32::try_from(self.program.starts.len()).map_err(|_| TooLong)?;
        let start = self.place();
        self.program.starts.push(start);
        self.save(0)?;
        self.node(&parsed.node)?;
        self.save(1)?;
        self.push(Op::Match(number)).map(|_| ())
    }

    pub(crate) fn end(self) -> Program {
        self.program
    }

    /// The place of the next step.
    fn place(&self) -> Place {
        Place::try_from(self.program.ops.len()).unwrap_or(Place::MAX)
    }

    fn push(&mut self, op: Op) -> Result<Place, TooLong> {
        self.spend()?;
        let place = self.place();
        self.program.ops.push(op);
        Ok(place)
    }

    fn spend(&mut self) -> Result<(), TooLong> {
        self.left = self.left.checked_sub(1).ok_or(TooLong)?;
        Ok(())
    }

    fn save(&mut self, slot: usize) -> Result<(), TooLong> {
        match self.with_groups {
            true => self.push(Op::Save(slot)).map(|_| ()),
            false => Ok(()),
        }
    }

    fn node(&mut self, node: &Node) -> Result<(), TooLong> {
        match node {
            Node::Symbol(symbol) => self.push(Op::Symbol(*symbol)).map(|_| ()),
            Node::Class(class) => self.push(Op::Class(self.classes + class)).map(|_| ()),
            Node::Look(look) => self.push(Op::Look(*look)).map(|_| ()),
            Node::Group(index, node) => {
                self.save(index * 2)?;
                self.node(node)?;
                self.save(index * 2 + 1)
            }
            Node::All(nodes) => {
                self.spend()?;
                nodes.iter().try_for_each(|node| self.node(node))
            }
            Node::Either(nodes) => self.either(nodes),
            Node::Repeat {
                node,
                min,
                max,
                greedy,
            } => self.repeat(node, *min, *max, *greedy),
        }
    }

    fn either(&mut self, nodes: &[Node]) -> Result<(), TooLong> {
        let mut ends = Vec::new();
        let Some((last, nodes)) = nodes.split_last() else {
            return Ok(());
        };
        for node in nodes {
            let split = self.push(Op::Split(0, 0))?;
            self.node(node)?;
            ends.push(self.push(Op::Goto(0))?);
            self.set(split, Op::Split(split + 1, self.place()));
        }
        self.node(last)?;
        for end in ends {
            self.set(end, Op::Goto(self.place()));
        }
        Ok(())
    }

    fn repeat(
        &mut self,
        node: &Node,
        min: u32,
        max: Option<u32>,
        greedy: bool,
    ) -> Result<(), TooLong> {
        self.spend()?;
        let copies = match max {
            None => min.saturating_sub(1),
            Some(_) => min,
        };
        for _ in 0..copies {
            self.node(node)?;
        }
        let Some(max) = max else {
            return match min {
                0 if !can_be_empty(node) => self.any_number(node, greedy),
                // What can be nothing is first tried once: its groups are set then.
                0 => self.optional(greedy, |compiler| compiler.at_least_one(node, greedy)),
                _ => self.at_least_one(node, greedy),
            };
        };
        let mut splits = Vec::new();
        for _ in min..max {
            splits.push(self.push(Op::Split(0, 0))?);
            self.node(node)?;
        }
        for split in splits {
            self.split(split, split + 1, self.place(), greedy);
        }
        Ok(())
    }

    fn optional(
        &mut self,
        greedy: bool,
        inside: impl FnOnce(&mut Self) -> Result<(), TooLong>,
    ) -> Result<(), TooLong> {
        let split = self.push(Op::Split(0, 0))?;
        inside(self)?;
        self.split(split, split + 1, self.place(), greedy);
        Ok(())
    }

    fn any_number(&mut self, node: &Node, greedy: bool) -> Result<(), TooLong> {
        let split = self.push(Op::Split(0, 0))?;
        self.node(node)?;
        self.push(Op::Goto(split))?;
        self.split(split, split + 1, self.place(), greedy);
        Ok(())
    }

    fn at_least_one(&mut self, node: &Node, greedy: bool) -> Result<(), TooLong> {
        let start = self.place();
        self.node(node)?;
        let split = self.push(Op::Split(0, 0))?;
        self.split(split, start, self.place(), greedy);
        Ok(())
    }

    fn split(&mut self, split: Place, again: Place, on: Place, greedy: bool) {
        self.set(
            split,
            match greedy {
                true => Op::Split(again, on),
                false => Op::Split(on, again),
            },
        );
    }

    fn set(&mut self, place: Place, op: Op) {
        let place = usize::try_from(place).ok();
        if let Some(there) = place.and_then(|place| self.program.ops.get_mut(place)) {
            *there = op;
        }
    }
}

impl Program {
    pub(crate) fn op(&self, place: Place) -> Option<Op> {
        self.ops.get(usize::try_from(place).ok()?).copied()
    }
}

fn can_be_empty(node: &Node) -> bool {
    match node {
        Node::Symbol(_) | Node::Class(_) => false,
        Node::Look(_) => true,
        Node::Group(_, node) => can_be_empty(node),
        Node::Repeat { node, min, .. } => *min == 0 || can_be_empty(node),
        Node::All(nodes) => nodes.iter().all(can_be_empty),
        Node::Either(nodes) => nodes.iter().any(can_be_empty),
    }
}
