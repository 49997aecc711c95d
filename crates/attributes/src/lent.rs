//! Working memory that outlives the callback that uses it.

use core::cell::Cell;
use core::fmt;

/// A value that is lent to one user at a time, so that it need not be made again.
pub(crate) struct Lent<T>(Cell<Option<T>>);

/// The first user has it made.
impl<T> Default for Lent<T> {
    fn default() -> Self {
        Self(Cell::new(None))
    }
}

impl<T> Lent<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Cell::new(Some(value)))
    }

    /// Lends the value to `user`. Where the value is lent already, a new one is made.
    pub(crate) fn lend<R>(&self, make: impl FnOnce() -> T, user: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self.0.take().unwrap_or_else(make);
        let result = user(&mut value);
        self.0.set(Some(value));
        result
    }
}

impl<T> fmt::Debug for Lent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lent")
    }
}
