//! Reads an expression.

mod symbols;

use core::fmt;

use crate::class::Class;
use crate::look::Look;

use symbols::Escaped;

/// The most groups and repetitions inside one another.
const MAX_NESTING: u32 = 50;

/// Why a text is no expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntaxError(&'static str);

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for SyntaxError {}

/// What an expression is looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alphabet {
    Bytes,
    Text,
}

impl Alphabet {
    fn last(self) -> u32 {
        match self {
            Self::Bytes => 0xff,
            Self::Text => 0x10_ffff,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Node {
    Symbol(u32),
    /// The place of the class in [`Parsed::classes`].
    Class(usize),
    Look(Look),
    /// A group whose place is told, with its number.
    Group(usize, Box<Self>),
    Repeat {
        node: Box<Self>,
        min: u32,
        max: Option<u32>,
        greedy: bool,
    },
    /// One after the other; without any, nothing.
    All(Vec<Self>),
    Either(Vec<Self>),
}

/// An expression as it was read.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) node: Node,
    pub(crate) classes: Vec<Class>,
    /// The names of the groups, from the second on: the first is the whole.
    pub(crate) names: Vec<Option<Box<str>>>,
}

/// A node and how many are inside one another in it.
type Tall = (Node, u32);

#[derive(Clone, Copy, Default)]
struct Flags {
    case_insensitive: bool,
    multi_line: bool,
    dot_matches_newline: bool,
    swapped_greed: bool,
    verbose: bool,
}

struct Parser<'p> {
    rest: &'p str,
    alphabet: Alphabet,
    flags: Flags,
    classes: Vec<Class>,
    names: Vec<Option<Box<str>>>,
    open: u32,
}

/// Reads `pattern`.
#[inline(never)]
pub(crate) fn parse(pattern: &str, alphabet: Alphabet) -> Result<Parsed, SyntaxError> {
    let mut parser = Parser {
        rest: pattern,
        alphabet,
        flags: Flags::default(),
        classes: Vec::new(),
        names: Vec::new(),
        open: 0,
    };
    let (node, _) = parser.either()?;
    match parser.rest.is_empty() {
        true => Ok(Parsed {
            node,
            classes: parser.classes,
            names: parser.names,
        }),
        false => Err(SyntaxError("a `)` without its `(`")),
    }
}

impl<'p> Parser<'p> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let char = chars.next();
        self.rest = chars.as_str();
        char
    }

    fn eat(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Leaves out what `(?x)` lets stand between the parts.
    fn skip(&mut self) {
        while self.flags.verbose {
            let rest = self.rest.trim_start();
            let comment = rest.strip_prefix('#');
            let Some(comment) = comment else {
                self.rest = rest;
                return;
            };
            self.rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
        }
    }

    fn either(&mut self) -> Result<Tall, SyntaxError> {
        let (first, mut height) = self.all()?;
        if self.peek() != Some('|') {
            return Ok((first, height));
        }
        let mut branches = vec![first];
        while self.eat("|") {
            let (branch, other) = self.all()?;
            branches.push(branch);
            height = height.max(other);
        }
        Ok((Node::Either(branches), height))
    }

    fn all(&mut self) -> Result<Tall, SyntaxError> {
        let mut nodes: Vec<Node> = Vec::new();
        let mut heights: Vec<u32> = Vec::new();
        loop {
            self.skip();
            let (node, height) = match self.peek() {
                None | Some('|' | ')') => break,
                Some('*' | '+' | '?' | '{') => match (nodes.pop(), heights.pop()) {
                    (Some(node), Some(height)) => self.repeat(node, height)?,
                    _ => return Err(SyntaxError("a repetition of nothing")),
                },
                Some('(') => match self.group()? {
                    Some(group) => group,
                    None => continue,
                },
                Some(_) => (self.one()?, 0),
            };
            nodes.push(node);
            heights.push(height);
        }
        let height = heights.into_iter().max().unwrap_or_default();
        match nodes.pop() {
            Some(node) if nodes.is_empty() => Ok((node, height)),
            last => {
                nodes.extend(last);
                Ok((Node::All(nodes), height))
            }
        }
    }

    fn repeat(&mut self, node: Node, height: u32) -> Result<Tall, SyntaxError> {
        let (min, max) = match self.next() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            _ => self.counts()?,
        };
        let lazy = self.eat("?");
        let greedy = lazy == self.flags.swapped_greed;
        if height >= MAX_NESTING {
            return Err(too_deep());
        }
        let node = Box::new(node);
        let repeat = Node::Repeat {
            node,
            min,
            max,
            greedy,
        };
        Ok((repeat, height + 1))
    }

    /// Behind `{`: the numbers and the `}`.
    fn counts(&mut self) -> Result<(u32, Option<u32>), SyntaxError> {
        let min = self.count()?;
        self.skip();
        let mut max = Some(min);
        if self.eat(",") {
            self.skip();
            max = match self.peek() {
                Some('}') => None,
                _ => Some(self.count()?),
            };
            self.skip();
        }
        if !self.eat("}") {
            return Err(SyntaxError(
                "a `{` without its `}`, expected `{2}`, `{2,}` or `{2,5}`, or `\\{` for the character",
            ));
        }
        match max {
            Some(max) if max < min => Err(SyntaxError(
                "a counted repetition whose first number is above its second",
            )),
            max => Ok((min, max)),
        }
    }

    fn count(&mut self) -> Result<u32, SyntaxError> {
        self.skip();
        let end = self.rest.find(|char: char| !char.is_ascii_digit());
        let end = end.unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at_checked(end).unwrap_or_default();
        self.rest = rest;
        digits.parse().map_err(|_| {
            SyntaxError("a `{` without a number, expected `{2}`, `{2,}` or `{2,5}`, or `\\{` for the character")
        })
    }

    /// A group; `None` where it only sets flags.
    fn group(&mut self) -> Result<Option<Tall>, SyntaxError> {
        self.next();
        self.skip();
        if ["?=", "?!", "?<=", "?<!"]
            .iter()
            .any(|ahead| self.rest.starts_with(ahead))
        {
            return Err(SyntaxError("look-around is not supported"));
        }
        let before = self.flags;
        let index = if self.eat("?P<") || self.eat("?<") {
            let name = self.name()?;
            self.names.push(Some(name));
            Some(self.names.len())
        } else if self.eat("?") {
            if self.set_flags()? {
                return Ok(None);
            }
            None
        } else {
            self.names.push(None);
            Some(self.names.len())
        };
        self.open += 1;
        if self.open > MAX_NESTING {
            return Err(too_deep());
        }
        let (node, height) = self.either()?;
        if !self.eat(")") {
            return Err(SyntaxError("a `(` without its `)`"));
        }
        self.open -= 1;
        self.flags = before;
        if height >= MAX_NESTING {
            return Err(too_deep());
        }
        let group = match index {
            Some(index) => Node::Group(index, Box::new(node)),
            None => node,
        };
        Ok(Some((group, height + 1)))
    }

    fn name(&mut self) -> Result<Box<str>, SyntaxError> {
        let Some((name, rest)) = self.rest.split_once('>') else {
            return Err(SyntaxError("a name of a group without its `>`"));
        };
        let mut chars = name.chars();
        let is_first = |char: char| char.is_alphabetic() || char == '_';
        let is_other = |char: char| char.is_alphanumeric() || "_.[]".contains(char);
        if !chars.next().is_some_and(is_first) || !chars.all(is_other) {
            return Err(SyntaxError(
                "a name of a group that is none, expected letters, digits and `_`",
            ));
        }
        if self.names.iter().flatten().any(|other| **other == *name) {
            return Err(SyntaxError("two groups of one name"));
        }
        self.rest = rest;
        Ok(name.into())
    }

    /// Behind `(?`: the flags. Whether they are for all that follows, not for a group.
    fn set_flags(&mut self) -> Result<bool, SyntaxError> {
        let mut value = true;
        let mut seen = String::new();
        loop {
            let Some(char) = self.next() else {
                return Err(SyntaxError("a `(` without its `)`"));
            };
            let is_end = matches!(char, ')' | ':');
            if (char == ')' && seen.is_empty()) || (is_end && seen.ends_with('-')) {
                return Err(SyntaxError("flags of a group without a letter"));
            }
            match char {
                ')' => return Ok(true),
                ':' => return Ok(false),
                _ if seen.contains(char) => return Err(SyntaxError("a flag that is there twice")),
                '-' => value = false,
                'i' => self.flags.case_insensitive = value,
                'm' => self.flags.multi_line = value,
                's' => self.flags.dot_matches_newline = value,
                'U' => self.flags.swapped_greed = value,
                'x' => self.flags.verbose = value,
                'u' if self.alphabet == Alphabet::Text || !value => (),
                _ => {
                    return Err(SyntaxError(
                        "a flag that is not known, expected some of i, m, s, U and x",
                    ));
                }
            }
            seen.push(char);
        }
    }

    /// A character, a class, or what must hold at a place.
    fn one(&mut self) -> Result<Node, SyntaxError> {
        let multi_line = self.flags.multi_line;
        let last = self.alphabet.last();
        let node = match self.next() {
            Some('.') => {
                let newline = (!self.flags.dot_matches_newline).then_some('\n');
                self.class(Class::all(last, newline))
            }
            Some('^') if multi_line => Node::Look(Look::StartOfLine),
            Some('^') => Node::Look(Look::Start),
            Some('$') if multi_line => Node::Look(Look::EndOfLine),
            Some('$') => Node::Look(Look::End),
            Some('[') => {
                let class = self.bracketed()?;
                self.class(class)
            }
            Some('\\') => match self.escape()? {
                Escaped::Char(char, is_byte) => self.char(char, is_byte),
                Escaped::Class(class) => self.class(class),
                Escaped::Look(look) => Node::Look(look),
            },
            Some(char) => self.char(char, false),
            None => Node::All(Vec::new()),
        };
        Ok(node)
    }

    fn class(&mut self, class: Class) -> Node {
        let place = self.classes.iter().position(|other| *other == class);
        Node::Class(place.unwrap_or_else(|| {
            self.classes.push(class);
            self.classes.len() - 1
        }))
    }

    fn char(&mut self, char: char, is_byte: bool) -> Node {
        if self.flags.case_insensitive && char.is_ascii_alphabetic() {
            let mut class = Class::default();
            class.add(char.into(), char.into());
            class.fold();
            return self.class(class.in_order());
        }
        if char.is_ascii() || is_byte || self.alphabet == Alphabet::Text {
            return Node::Symbol(char.into());
        }
        let mut buffer = [0; 4];
        let bytes = char.encode_utf8(&mut buffer).bytes();
        Node::All(bytes.map(|byte| Node::Symbol(byte.into())).collect())
    }
}

fn too_deep() -> SyntaxError {
    SyntaxError("more than 50 groups and repetitions inside one another")
}
