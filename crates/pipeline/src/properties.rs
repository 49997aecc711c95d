//! The properties that the host looks up for a filter, and the places of their values.

use core::ops::Range;

use arrayvec::ArrayVec;
use meshtrace_attributes::MAX_ATTRIBUTES;

use crate::Lookup;

/// The paths of the properties that the host looks up for every request, or for every response.
///
/// A stage adds its paths when it is compiled, and keeps the handle by which it finds the values.
#[derive(Clone, Debug, Default)]
pub(crate) struct PropertyPaths(Vec<Box<[u8]>>);

/// The values that the host found, in the order of the [`PropertyPaths`].
pub(crate) type PropertyValues = [Option<Box<[u8]>>];

impl PropertyPaths {
    /// Adds one path, whose elements are separated by NUL.
    pub(crate) fn add(&mut self, path: &[u8]) -> PropertyHandle {
        self.0.push(path.into());
        PropertyHandle(self.0.len() - 1)
    }

    /// Adds several paths, whose values are found together.
    pub(crate) fn add_all(&mut self, paths: &[Box<[u8]>]) -> PropertyRange {
        let start = self.0.len();
        self.0.extend_from_slice(paths);
        PropertyRange(start..self.0.len())
    }

    /// Looks up all of them now, for a request that is over.
    pub(crate) fn look_up(&self, lookup: &dyn Lookup) -> ArrayVec<Option<Box<[u8]>>, MAX_LOOKUPS> {
        let paths = self.0.iter().take(MAX_LOOKUPS);
        paths.map(|path| lookup.property(path)).collect()
    }
}

/// An attribute looks up at most one property, and so do the rules.
const MAX_LOOKUPS: usize = MAX_ATTRIBUTES + 1;

impl core::ops::Deref for PropertyPaths {
    type Target = [Box<[u8]>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// Where the value of one property is found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PropertyHandle(usize);

impl PropertyHandle {
    pub(crate) fn of(self, values: &PropertyValues) -> Option<&[u8]> {
        values.get(self.0)?.as_deref()
    }
}

/// Where the values of several properties are found.
#[derive(Clone, Debug, Default)]
pub(crate) struct PropertyRange(Range<usize>);

impl PropertyRange {
    pub(crate) fn of<'v>(&self, values: &'v PropertyValues) -> &'v PropertyValues {
        values.get(self.0.clone()).unwrap_or_default()
    }
}
