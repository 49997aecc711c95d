//! What is wrong with a configuration: all of it, in one line.

use core::fmt;
use std::borrow::Cow;

use crate::quote;

/// Why a plugin configuration is refused: every mistake in it, for the person who wrote it.
///
/// A mistake is written as `trace_context.extract[1]: unknown variant …`: the path, what was found,
/// and what is allowed. Several are written one after the other, with "; also " between them.
/// It is one line of at most 1,750 bytes, whatever the configuration: the first mistakes that have
/// room, at most 20, are told and the others counted. It quotes at most 200 bytes of a value, and no
/// byte of a header's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one, in the order in which they were found.
    mistakes: Vec<Mistake>,
    /// How many more there are.
    untold: usize,
}

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    path: String,
    /// The value that is wrong, where it is not that at `path`: the key that is missing in it.
    about: Option<String>,
    message: String,
    /// The line and the column in the JSON text, both from 1.
    position: Option<(usize, usize)>,
    /// Where a mistake in one of these keys may be the reason for this one, so that this one is no
    /// news.
    judged_by: Vec<String>,
}

/// The most mistakes that are told.
const MAX_MISTAKES: usize = 20;
/// The most bytes in which mistakes are told. With what Envoy and the filter say before and after
/// them, the line of the log has at most 2,048.
const MAX_LINE: usize = 1_700;
/// The most bytes of the path in an error.
const MAX_PATH: usize = 400;
/// The most bytes of the text about the value in an error.
const MAX_MESSAGE: usize = 1_250;

impl ConfigError {
    /// A refusal of the value at `path`, relative to the configuration's top (`incoming.when`).
    #[inline(never)]
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::told(path.into(), message.into(), None, None)
    }

    /// A refusal that was read at the line and the column of `position`, of the value at `about`
    /// where it is not that at `path`.
    #[inline(never)]
    pub(crate) fn told(
        path: String,
        message: String,
        about: Option<String>,
        position: Option<(usize, usize)>,
    ) -> Self {
        Self {
            mistakes: vec![Mistake {
                path,
                about,
                message,
                position,
                judged_by: Vec::new(),
            }],
            untold: 0,
        }
    }

    /// A refusal of the text `found` at `path`; `expected` begins with "expected".
    #[must_use]
    #[inline(never)]
    pub fn invalid_text(path: &str, found: &str, expected: &dyn fmt::Display) -> Self {
        Self::new(path, format!("invalid value: string {found:?}, {expected}"))
    }

    /// The same refusal, where it also depends on the value at `path`: it is left out where that
    /// value is refused itself.
    #[must_use]
    #[inline(never)]
    pub fn judged_by(mut self, path: &str) -> Self {
        for mistake in &mut self.mistakes {
            mistake.judged_by.push(path.to_owned());
        }
        self
    }

    /// The same refusal of a value that stands below `parent`.
    #[must_use]
    #[inline(never)]
    pub fn below(mut self, parent: &str) -> Self {
        for mistake in &mut self.mistakes {
            let own = mistake.about.iter_mut().chain([&mut mistake.path]);
            for path in mistake.judged_by.iter_mut().chain(own) {
                *path = match path.as_str() {
                    "" => parent.to_owned(),
                    path if path.starts_with('[') => [parent, path].concat(),
                    path => [parent, ".", path].concat(),
                };
            }
        }
        self
    }

    /// This refusal, and `other` where it says something new: of a value about which nothing was
    /// said before, and for a reason that was not refused itself.
    #[must_use]
    #[inline(never)]
    pub fn and(mut self, other: Self) -> Self {
        let known = self.mistakes.len();
        let knows_all = self.untold == 0;
        for mistake in other.mistakes {
            let known = self.mistakes.get(..known).unwrap_or_default();
            let is_new = |path: &String| !known.iter().any(|one| one.is_about(path));
            if knows_all && is_new(&mistake.path) && mistake.judged_by.iter().all(is_new) {
                self.push(mistake);
            }
        }
        if knows_all {
            self.untold = self.untold.saturating_add(other.untold);
        }
        self
    }

    fn push(&mut self, mistake: Mistake) {
        match self.mistakes.len() < MAX_MISTAKES {
            true => self.mistakes.push(mistake),
            false => self.untold = self.untold.saturating_add(1),
        }
    }

    /// The mistakes, at most 20.
    #[must_use]
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

impl Mistake {
    /// The path of the value, such as `trace_context.extract[1]`.
    #[must_use]
    pub fn path(&self) -> &str {
        match may_be_secret(&self.path) {
            true => quote::without_line(&self.path),
            false => &self.path,
        }
    }

    /// What was found, and what is allowed: at most 1,250 bytes without a line break and without
    /// the value of a header.
    #[must_use]
    #[inline(never)]
    pub fn message(&self) -> String {
        let message = match hides_value(&self.path, &self.message) {
            true => quote::hide_value(&self.message),
            false => Cow::Borrowed(self.message.as_str()),
        };
        quote::one_line(&quote::shorten_quotes(&message), MAX_MESSAGE)
    }

    /// Where the value stands in the JSON text, line and column from 1. Only what was found while the
    /// text was read has a position, such as a key that is unknown or a value of the wrong type.
    #[must_use]
    pub fn position(&self) -> Option<(usize, usize)> {
        self.position
    }

    /// Whether it is about the value at `path`, one above it or one below.
    fn is_about(&self, path: &str) -> bool {
        let own = self.about.as_ref().unwrap_or(&self.path);
        let is_below = |path: &str, above: &str| {
            let rest = path.strip_prefix(above);
            rest.is_some_and(|rest| {
                above.is_empty() || matches!(rest.get(..1), None | Some("." | "["))
            })
        };
        is_below(path, own) || is_below(own, path)
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote::one_line(self.path(), MAX_PATH))?;
        f.write_str(": ")?;
        f.write_str(&self.message())?;
        match self.position {
            None => Ok(()),
            Some((line, column)) => write!(f, " at line {line} column {column}"),
        }
    }
}

impl fmt::Display for ConfigError {
    #[inline(never)]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut told, mut bytes) = (0, 0);
        for mistake in &self.mistakes {
            let text = mistake.to_string();
            bytes += text.len() + 7;
            if told > 0 {
                if bytes > MAX_LINE {
                    break;
                }
                f.write_str("; also ")?;
            }
            told += 1;
            f.write_str(&text)?;
        }
        match self.mistakes.len().saturating_add(self.untold) - told {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl core::error::Error for ConfigError {}

/// Whether the value at `path` that `message` quotes may be a secret. A header's value often is one,
/// and a secret may have been written where the name of its variable or of its header belongs.
fn hides_value(path: &str, message: &str) -> bool {
    let is_name =
        matches!(path.rsplit('.').next(), Some("header" | "name")) && quote::quotes_a_name(message);
    // The path or the host of a URL sometimes contains a key or a password.
    let below_filter = path.strip_prefix("mesh_tracing.").unwrap_or(path);
    let is_report = matches!(below_filter, "report" | "report.path" | "report.authority");
    is_report || !is_name && may_be_secret(path)
}

/// Whether it is a path below which there are secrets.
#[inline(never)]
fn may_be_secret(path: &str) -> bool {
    // The code for splitting a text is larger.
    let mut start = 0;
    for (at, byte) in path.bytes().chain([b'.']).enumerate() {
        if matches!(byte, b'.' | b'[') {
            if let Some("headers" | "force" | "hmac_sha256") = path.get(start..at) {
                return true;
            }
            start = at + 1;
        }
    }
    false
}

/// Gathers the mistakes of several parts of a configuration, so that one does not hide the others.
#[derive(Debug, Default)]
pub struct Mistakes(Option<ConfigError>);

impl Mistakes {
    /// The part where it is good; else its mistakes are kept.
    pub fn keep<T>(&mut self, part: Result<T, ConfigError>) -> Option<T> {
        match part {
            Ok(part) => Some(part),
            Err(error) => {
                self.add(error);
                None
            }
        }
    }

    /// Keeps the mistakes of `error`.
    #[inline(never)]
    pub fn add(&mut self, error: ConfigError) {
        match &mut self.0 {
            None => self.0 = Some(error),
            Some(all) => {
                for mistake in error.mistakes {
                    let is_good =
                        |path: &String| !all.mistakes.iter().any(|one| one.is_about(path));
                    if mistake.judged_by.iter().all(is_good) {
                        all.push(mistake);
                    }
                }
                all.untold = all.untold.saturating_add(error.untold);
            }
        }
    }

    /// Whether no more mistakes are told.
    pub(crate) fn is_full(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|all| all.mistakes.len() >= MAX_MISTAKES)
    }

    /// Counts a mistake that is not told.
    pub(crate) fn count_one(&mut self) {
        if let Some(all) = &mut self.0 {
            all.untold = all.untold.saturating_add(1);
        }
    }

    /// Keeps the mistake `message` at `path` unless `is_good`.
    #[inline(never)]
    pub fn require(&mut self, is_good: bool, path: &str, message: &str) {
        if !is_good {
            self.add(ConfigError::new(path, message));
        }
    }

    /// `whole`, where no part had a mistake. It is `None` only where one had.
    ///
    /// # Errors
    /// All mistakes that were kept.
    pub fn finish<T>(self, whole: Option<T>) -> Result<T, ConfigError> {
        match (self.0, whole) {
            (None, Some(whole)) => Ok(whole),
            (Some(error), _) => Err(error),
            (None, None) => Err(ConfigError::new("", "cannot be used")),
        }
    }

    /// # Errors
    /// All mistakes that were kept.
    pub fn end(self) -> Result<(), ConfigError> {
        self.finish(Some(()))
    }
}

/// The value of the second part, where both are good.
///
/// # Errors
/// The mistakes of both parts: of the second one, those about values of which the first one says
/// nothing.
pub fn both<T>(
    first: Result<(), ConfigError>,
    second: Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    match (first, second) {
        (Ok(()), second) => second,
        (Err(error), Ok(_)) => Err(error),
        (Err(error), Err(other)) => Err(error.and(other)),
    }
}

/// Compiles every item of the list at `path`.
///
/// # Errors
/// The mistakes of all items, each with the path of its item.
pub fn each<T, U>(
    path: &str,
    items: &[T],
    mut compile: impl FnMut(usize, &T) -> Result<U, ConfigError>,
) -> Result<Vec<U>, ConfigError> {
    let mut mistakes = Mistakes::default();
    let mut compiled = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let item = compile(i, item).map_err(|error| error.below(&item_of(path, i)));
        compiled.extend(mistakes.keep(item));
    }
    mistakes.finish(Some(compiled))
}

#[inline(never)]
fn item_of(path: &str, i: usize) -> String {
    format!("{path}[{i}]")
}
