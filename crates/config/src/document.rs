//! The text of a configuration, and the paths of its values.

use core::cell::RefCell;
use core::fmt;

use crate::error::{ConfigError, Mistakes};
use crate::{json, quote};

/// The text of a configuration, and the mistakes that were found in it.
pub(crate) struct Document<'v> {
    pub(crate) text: &'v str,
    pub(crate) mistakes: RefCell<Mistakes>,
}

impl<'v> Document<'v> {
    /// # Errors
    /// Where the text is not JSON.
    #[inline(never)]
    pub(crate) fn new(json: &'v [u8]) -> Result<Self, ConfigError> {
        let text = core::str::from_utf8(json).map_err(|error| not_json(&error))?;
        json::check(text).map_err(|error| not_json(&error))?;
        Ok(Self {
            text,
            mistakes: RefCell::default(),
        })
    }

    pub(crate) fn into_mistakes(self) -> Mistakes {
        self.mistakes.into_inner()
    }
}

#[inline(never)]
fn not_json(error: &dyn fmt::Display) -> ConfigError {
    let message = format!(
        "not JSON ({error}); expected a JSON object in a google.protobuf.StringValue \
         (a google.protobuf.Struct does not arrive as JSON)"
    );
    ConfigError::new("", message)
}

/// The way from the top of a configuration to one of its values.
#[derive(Clone, Copy)]
pub(crate) struct Path<'p> {
    pub(crate) above: Option<&'p Path<'p>>,
    pub(crate) step: Step<'p>,
}

/// The last part of a path.
#[derive(Clone, Copy)]
pub(crate) enum Step<'p> {
    Top,
    Key(&'p str),
    Item(usize),
}

impl Path<'_> {
    pub(crate) fn write(&self, path: &mut String) {
        if let Some(above) = self.above {
            above.write(path);
        }
        match self.step {
            Step::Top => {}
            Step::Key(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&quote::shorten(key));
            }
            Step::Item(i) => path.push_str(&format!("[{i}]")),
        }
    }
}
