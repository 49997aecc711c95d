//! Reads what stands for symbols: classes in brackets, and escapes.

use super::{Alphabet, Parser, SyntaxError};
use crate::class::{self, Class};
use crate::look::Look;

/// What an escape stands for.
pub(super) enum Escaped {
    /// A character, and whether it is written as a byte.
    Char(char, bool),
    Class(Class),
    Look(Look),
}

impl Parser<'_> {
    /// Behind `[`: a class.
    pub(super) fn bracketed(&mut self) -> Result<Class, SyntaxError> {
        let mut class = Class::default();
        let negated = self.eat("^");
        let mut is_first = true;
        loop {
            self.skip();
            if !is_first && self.eat("]") {
                break;
            }
            if self.rest.is_empty() {
                return Err(SyntaxError("a `[` without its `]`"));
            }
            if is_first && self.rest.starts_with('-') {
                self.next();
                class.add('-'.into(), '-'.into());
                // More of them, and a `]` behind them, end the class or go on as usual.
                while self.eat("-") {}
            } else if is_first && self.eat("]") {
                class.add(']'.into(), ']'.into());
            } else if ["&&", "--", "~~"]
                .iter()
                .any(|set| self.rest.starts_with(set))
            {
                return Err(SyntaxError(
                    "sets of classes (`&&`, `--`, `~~`) are not supported, write `\\&`, `\\-` or `\\~` for the character",
                ));
            } else if let Some(named) = self.named()? {
                class.add_all(&named);
            } else {
                self.range(&mut class)?;
            }
            is_first = false;
        }
        if self.flags.case_insensitive {
            class.fold();
        }
        Ok(match negated {
            true => class.negated(self.alphabet.last()),
            false => class.in_order(),
        })
    }

    /// `[:alpha:]` or `[:^alpha:]`, inside a class.
    fn named(&mut self) -> Result<Option<Class>, SyntaxError> {
        if !self.rest.starts_with('[') {
            return Ok(None);
        }
        // Not split_once: this is the only search for a text, and that takes 2 kB of code.
        let named = self.rest.strip_prefix("[:").and_then(|rest| {
            let mut pairs = rest.as_bytes().windows(2);
            let end = pairs.position(|pair| pair == b":]")?;
            Some((rest.get(..end)?, rest.get(end + 2..)?))
        });
        let Some((name, rest)) = named else {
            return Err(SyntaxError(
                "a class inside a class is not supported, write `\\[` for the character",
            ));
        };
        let positive = name.strip_prefix('^');
        let class = class::posix(positive.unwrap_or(name)).ok_or(SyntaxError(
            "a class of that name is not known, expected for example `[:alpha:]`",
        ))?;
        self.rest = rest;
        Ok(Some(match positive {
            Some(_) => class.negated(self.alphabet.last()),
            None => class,
        }))
    }

    /// One symbol, a range of them, or an escape that stands for several, inside a class.
    fn range(&mut self, class: &mut Class) -> Result<(), SyntaxError> {
        let from = match self.item()? {
            Escaped::Class(other) => {
                class.add_all(&other);
                return match self.is_range() {
                    true => Err(SyntaxError("a range that does not begin with a character")),
                    false => Ok(()),
                };
            }
            item => self.symbol(&item)?,
        };
        self.skip();
        if !self.is_range() {
            class.add(from, from);
            return Ok(());
        }
        self.next();
        self.skip();
        if self.rest.is_empty() {
            return Err(SyntaxError("a `[` without its `]`"));
        }
        let to = self.item()?;
        let to = self.symbol(&to)?;
        if to < from {
            return Err(SyntaxError("a range whose end is before its beginning"));
        }
        class.add(from, to);
        Ok(())
    }

    fn is_range(&self) -> bool {
        let behind = self.rest.strip_prefix('-');
        behind.is_some_and(|behind| !behind.starts_with([']', '-']))
    }

    fn item(&mut self) -> Result<Escaped, SyntaxError> {
        match self.next() {
            Some('\\') => self.escape(),
            Some(char) => Ok(Escaped::Char(char, false)),
            None => Err(SyntaxError("a `[` without its `]`")),
        }
    }

    /// The symbol of one character of a class.
    fn symbol(&self, item: &Escaped) -> Result<u32, SyntaxError> {
        match item {
            Escaped::Char(char, is_byte)
                if char.is_ascii() || *is_byte || self.alphabet == Alphabet::Text =>
            {
                Ok((*char).into())
            }
            Escaped::Char(..) => Err(SyntaxError(
                "a class of bytes has no characters outside ASCII, write them as alternatives: `(é|è)`",
            )),
            Escaped::Class(_) => Err(SyntaxError("a range that does not end with a character")),
            Escaped::Look(_) => Err(SyntaxError("a place is no character, in a class")),
        }
    }

    /// Behind `\`.
    pub(super) fn escape(&mut self) -> Result<Escaped, SyntaxError> {
        let Some(char) = self.next() else {
            return Err(SyntaxError("a `\\` at the end"));
        };
        let char = match char {
            '0'..='9' => return Err(SyntaxError("backreferences are not supported")),
            'p' | 'P' => {
                return Err(SyntaxError(
                    "Unicode classes are not supported, expected classes of ASCII such as `[a-z]` or `\\w`",
                ));
            }
            'x' => return self.hexadecimal(2),
            'u' => return self.hexadecimal(4),
            'U' => return self.hexadecimal(8),
            'd' | 's' | 'w' | 'D' | 'S' | 'W' => {
                let class = class::perl(char.to_ascii_lowercase()).unwrap_or_default();
                return Ok(Escaped::Class(match char.is_ascii_uppercase() {
                    true => class.negated(self.alphabet.last()),
                    false => class,
                }));
            }
            'a' => '\x07',
            'f' => '\x0c',
            't' => '\t',
            'n' => '\n',
            'r' => '\r',
            'v' => '\x0b',
            'A' => return Ok(Escaped::Look(Look::Start)),
            'z' => return Ok(Escaped::Look(Look::End)),
            'B' => return Ok(Escaped::Look(Look::NotWord)),
            'b' => return Ok(Escaped::Look(self.word())),
            '<' => return Ok(Escaped::Look(Look::StartOfWord)),
            '>' => return Ok(Escaped::Look(Look::EndOfWord)),
            char if char.is_ascii_punctuation() || char == ' ' => char,
            _ => return Err(SyntaxError("an escape that is not known")),
        };
        Ok(Escaped::Char(char, false))
    }

    /// Behind `\b`.
    fn word(&mut self) -> Look {
        let halves = [
            ("{start}", Look::StartOfWord),
            ("{end}", Look::EndOfWord),
            ("{start-half}", Look::StartOfWordHalf),
            ("{end-half}", Look::EndOfWordHalf),
        ];
        let half = halves.into_iter().find(|(text, _)| self.eat(text));
        half.map_or(Look::Word, |(_, look)| look)
    }

    /// Behind `\x`, `\u` or `\U`: this many digits, or some in braces.
    fn hexadecimal(&mut self, length: usize) -> Result<Escaped, SyntaxError> {
        let error = SyntaxError(
            "no hexadecimal number of a character, expected for example `\\x2F` or `\\x{2F}`",
        );
        let braced = self.rest.strip_prefix('{').map(|rest| rest.split_once('}'));
        let (digits, rest) = match braced {
            Some(braced) => braced.ok_or(error)?,
            None => self.rest.split_at_checked(length).ok_or(error)?,
        };
        self.rest = rest;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(error);
        }
        let number = u32::from_str_radix(digits, 16).map_err(|_| error)?;
        let char = char::from_u32(number).ok_or(error)?;
        Ok(Escaped::Char(char, length == 2 && braced.is_none()))
    }
}
