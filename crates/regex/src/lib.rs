//! Regular expressions in little code.
//!
//! [`Dfa`] tells which of many expressions fit the whole of a line of bytes, in one table look-up a
//! byte. [`Regex`] finds an expression in a text, with its groups, in time that grows with the
//! length of the text times the size of the expression. Neither goes back: there is no expression
//! and no input for which either takes longer.
//!
//! Syntax: that of RE2, with classes of ASCII. Look-around, backreferences, Unicode classes, and
//! sets of classes (`&&`, `--`, `~~`, a class inside a class) are refused.

#![forbid(unsafe_code)]

mod class;
mod dfa;
mod look;
mod parse;
mod program;
mod search;

pub use dfa::{Dfa, Ends, State, TooLarge};
pub use parse::SyntaxError;
pub use search::{Exhausted, Memory, Refusal, Regex};

/// Whether `pattern` can be an expression of a [`Dfa`].
///
/// # Errors
///
/// Where it is none.
pub fn check(pattern: &str) -> Result<(), SyntaxError> {
    parse::parse(pattern, parse::Alphabet::Bytes).map(|_| ())
}
