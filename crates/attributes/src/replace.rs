//! The replacement of what a pattern finds in a value.

use meshtrace_config::ConfigError;
use meshtrace_regex::{Exhausted, Memory, Regex};

use crate::config::{MAX_VALUE, ReplaceConfig};
use crate::text::{MAX_TEXT, ValueText, push_str, refuse_controls};
use crate::{Counter, Tally};

/// The longest pattern, in bytes.
const MAX_PATTERN: usize = 256;
/// The most steps of a compiled pattern.
const MAX_STEPS: usize = 700;
/// The most steps of the patterns of all attributes. What is kept of a pattern grows with them, and
/// a VM that has no memory left ends: in an update it has the old configuration and the new one at
/// once.
const MAX_ALL_STEPS: usize = 20_000;
/// The longest replacement, in bytes: a value that is longer is cut anyway.
const MAX_WITH: usize = MAX_TEXT;
/// The most work of one replacement, in the regular expression's units. An ordinary pattern takes
/// some thousands.
const MAX_WORK: usize = 1 << 19;
/// The most work of the replacements of all attributes of a request, or of its response.
const MAX_ALL_WORK: usize = 1 << 22;
/// Most matches in a text of more than [`MAX_VALUE`] bytes: each may have searched all that
/// follows.
pub(crate) const MAX_MATCHES: usize = 64;
/// Working memory of the transformations.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    pub(crate) text: ValueText,
    /// One search runs at a time, so it is for the patterns of all attributes.
    memory: Memory,
    /// The work that is left; in a load, the steps.
    left: usize,
}

impl Spare {
    /// A configuration is loaded.
    pub(crate) fn begin_load(&mut self) {
        self.left = MAX_ALL_STEPS;
    }

    /// The attributes of another message are gathered.
    pub(crate) fn begin(&mut self) {
        self.left = MAX_ALL_WORK;
    }

    /// Makes room for `regex`, and for its searches: a request takes no memory.
    #[inline(never)]
    fn take(&mut self, regex: &Regex) -> Result<(), ConfigError> {
        let left = self.left.checked_sub(regex.steps());
        let refusal = match left {
            None => {
                "the patterns of all attributes are too long together, expected fewer or shorter ones"
            }
            Some(_) if self.memory.fit(regex).is_err() => "there is no memory for its searches",
            Some(_) => "",
        };
        self.left = left.unwrap_or_default();
        match refusal {
            "" => Ok(()),
            refusal => Err(ConfigError::new("pattern", refusal)),
        }
    }
}

/// A pattern and the replacement of its matches.
#[derive(Debug)]
pub(crate) struct Replace {
    regex: Regex,
    with: Vec<Piece>,
}

/// A part of a replacement.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Group(usize),
}

impl Replace {
    #[inline(never)]
    pub(crate) fn new(config: &ReplaceConfig, spare: &mut Spare) -> Result<Self, ConfigError> {
        if config.pattern.len() > MAX_PATTERN {
            return Err(ConfigError::new(
                "pattern",
                format!(
                    "{} bytes, expected at most {MAX_PATTERN}",
                    config.pattern.len()
                ),
            ));
        }
        let regex = Regex::new(&config.pattern, MAX_STEPS).map_err(|error| {
            ConfigError::new(
                "pattern",
                format!("not a regular expression that can be used: {error}"),
            )
        })?;
        if config.with.len() > MAX_WITH {
            return Err(ConfigError::new(
                "with",
                format!("{} bytes, expected at most {MAX_WITH}", config.with.len()),
            ));
        }
        refuse_controls("with", &config.with)?;
        let with = pieces(&config.with, &regex).map_err(|error| ConfigError::new("with", error))?;
        spare.take(&regex)?;
        Ok(Self { regex, with })
    }

    /// Writes `text` into the text of `spare` with every match replaced. Each match begins another
    /// search, which may look at all that follows: a pattern could hold the worker for seconds.
    pub(crate) fn apply(
        &self,
        text: &str,
        spare: &mut Spare,
        tally: &mut Tally,
    ) -> Result<(), Exhausted> {
        let lent = spare.left.min(MAX_WORK);
        let mut work = lent;
        let written = self.write(text, &mut spare.text, &mut spare.memory, &mut work, tally);
        spare.left -= lent - work;
        written
    }

    fn write(
        &self,
        text: &str,
        spare: &mut ValueText,
        memory: &mut Memory,
        work: &mut usize,
        tally: &mut Tally,
    ) -> Result<(), Exhausted> {
        spare.clear();
        let mut copied = 0;
        let mut at = 0;
        let mut matches = 0;
        while let Some((start, end)) = self.regex.find(memory, text, at, work)? {
            matches += 1;
            if matches > MAX_MATCHES && text.len() > MAX_VALUE {
                tally.count(Counter::Truncated);
                return Ok(());
            }
            let is_empty = start == end;
            let repeats = is_empty && at > 0 && start == copied;
            if !repeats {
                let before = text.get(copied..start).unwrap_or_default();
                let pieces = self.with.iter().map(|piece| match piece {
                    Piece::Text(text) => text,
                    Piece::Group(group) => memory
                        .group(*group)
                        .and_then(|(start, end)| text.get(start..end))
                        .unwrap_or_default(),
                });
                for piece in core::iter::once(before).chain(pieces) {
                    if !push_str(spare, piece, tally) {
                        return Ok(());
                    }
                }
                copied = end;
            }
            if end == text.len() {
                break;
            }
            at = match is_empty {
                true => text.ceil_char_boundary(end + 1),
                false => end,
            };
        }
        push_str(spare, text.get(copied..).unwrap_or_default(), tally);
        Ok(())
    }
}

/// Reads a replacement: text, `$1`, `${1}`, `${name}` and `$$`.
#[inline(never)]
fn pieces(with: &str, regex: &Regex) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = with;
    while let Some((before, after)) = rest.split_once('$') {
        pieces.push(Piece::Text(before.into()));
        let (group, behind) = if let Some(behind) = after.strip_prefix('$') {
            pieces.push(Piece::Text("$".into()));
            rest = behind;
            continue;
        } else if let Some(braced) = after.strip_prefix('{') {
            braced
                .split_once('}')
                .ok_or_else(|| "a `${` without its `}`".to_owned())?
        } else {
            let end = after
                .find(|char: char| !char.is_ascii_digit())
                .unwrap_or(after.len());
            after
                .split_at_checked(end)
                .filter(|(digits, _)| !digits.is_empty())
                .ok_or_else(|| {
                    "a `$` that is no group, expected `$1`, `${name}`, or `$$` for a dollar"
                        .to_owned()
                })?
        };
        let index = match group.parse() {
            Ok(index) => Some(index).filter(|index| *index < regex.groups()),
            Err(_) => regex.group(group),
        };
        let index = index.ok_or_else(|| format!("the pattern has no group {group:?}"))?;
        pieces.push(Piece::Group(index));
        rest = behind;
    }
    pieces.push(Piece::Text(rest.into()));
    pieces.retain(|piece| *piece != Piece::Text("".into()));
    Ok(pieces)
}
