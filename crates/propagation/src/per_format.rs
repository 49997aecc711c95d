//! One value for each format.

use crate::format::Format;

/// One value for each format.
#[derive(Clone, Copy, Debug, Default)]
pub struct PerFormat<T>([T; Format::ALL.len()]);

impl<T: Copy + Default> PerFormat<T> {
    /// The value of `format`.
    #[must_use]
    pub fn of(&self, format: Format) -> T {
        self.0.get(format as usize).copied().unwrap_or_default()
    }

    /// Sets the value of `format`.
    pub fn set(&mut self, format: Format, value: T) {
        if let Some(place) = self.0.get_mut(format as usize) {
            *place = value;
        }
    }

    /// The values, in the order of [`Format::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}
