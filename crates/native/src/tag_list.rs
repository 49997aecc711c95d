//! Names and values in one piece of memory.

/// Tags in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct TagList {
    encoded: Vec<u8>,
    /// The tags for which there was no room even for the name.
    unnamed: u32,
}

/// The most bytes of one list. As many further bytes are for the names of tags without a value.
const MAX_BYTES: usize = 64 * 1024;
/// The most bytes of a short value.
const SHORT: usize = 16;
/// The length of a length.
const LENGTH: usize = 4;
/// Stands for the length of a value that had no room.
const NO_ROOM: u32 = u32::MAX;
/// An attribute has 1024 bytes of a value at most. A character has four, so what comes behind these
/// bytes changes nothing.
pub(crate) const MAX_VALUE: usize = 1024 + 4;

impl TagList {
    /// Adds a tag. Where there is no room for its value, its name is kept.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) {
        let value = value.get(..MAX_VALUE).unwrap_or(value);
        let has_room =
            |length: usize, most: usize| self.encoded.len() + length + 2 * LENGTH <= most;
        // A short value has the room of names: the status of a call comes last.
        let most = match value.len() {
            ..=SHORT => 2 * MAX_BYTES,
            _ => MAX_BYTES,
        };
        let fits = has_room(key.len() + value.len(), most);
        let value_length = match fits {
            true => u32::try_from(value.len()).ok(),
            false => has_room(key.len(), 2 * MAX_BYTES).then_some(NO_ROOM),
        };
        let Some((key_length, value_length)) = u32::try_from(key.len()).ok().zip(value_length)
        else {
            self.unnamed = self.unnamed.saturating_add(1);
            return;
        };
        self.encoded.extend_from_slice(&key_length.to_le_bytes());
        self.encoded.extend_from_slice(&value_length.to_le_bytes());
        self.encoded.extend_from_slice(key);
        if fits {
            self.encoded.extend_from_slice(value);
        }
    }

    /// The tags from the place `start` on, each with its place. The value is `None` where it had no
    /// room.
    pub(crate) fn from(&self, start: usize) -> impl Iterator<Item = Entry<'_>> {
        let mut rest = self.encoded.get(start..).unwrap_or_default();
        core::iter::from_fn(move || {
            let place = self.encoded.len() - rest.len();
            let (key_length, after) = rest.split_first_chunk::<LENGTH>()?;
            let (value_length, after) = after.split_first_chunk::<LENGTH>()?;
            let key_length = usize::try_from(u32::from_le_bytes(*key_length)).ok()?;
            let (key, after) = after.split_at_checked(key_length)?;
            let (value, after) = match u32::from_le_bytes(*value_length) {
                NO_ROOM => (None, after),
                length => {
                    let (value, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
                    (Some(value), after)
                }
            };
            rest = after;
            Some(Entry { place, key, value })
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        self.from(0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// The place of the next tag.
    pub(crate) fn end(&self) -> usize {
        self.encoded.len()
    }

    /// Forgets the tags from this place on.
    pub(crate) fn cut(&mut self, place: usize) {
        self.encoded.truncate(place);
    }

    /// The tags of which not even the name is known.
    pub(crate) fn unnamed(&self) -> u32 {
        self.unnamed
    }

    pub(crate) fn clear(&mut self) {
        self.encoded.clear();
        self.unnamed = 0;
    }

    pub(crate) fn capacity(&self) -> usize {
        self.encoded.capacity()
    }
}

/// A tag of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'l> {
    pub(crate) place: usize,
    pub(crate) key: &'l [u8],
    pub(crate) value: Option<&'l [u8]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &TagList) -> Vec<(&[u8], Option<&[u8]>)> {
        list.iter().map(|entry| (entry.key, entry.value)).collect()
    }

    #[test]
    fn tags_come_back_in_order_and_a_full_list_keeps_names() {
        let mut list = TagList::default();
        for (key, value) in [("a", "1"), ("", ""), ("b", "")] {
            list.push(key.as_bytes(), value.as_bytes());
        }
        let expected: [(&[u8], Option<&[u8]>); 3] =
            [(b"a", Some(b"1")), (b"", Some(b"")), (b"b", Some(b""))];
        assert_eq!(pairs(&list), expected);
        let second = list.iter().nth(1).unwrap();
        assert_eq!(list.from(second.place).count(), 2);
        list.cut(second.place);
        assert_eq!(list.iter().count(), 1);

        let value = [b'x'; 2 * MAX_VALUE];
        let mut count = 0;
        while list.iter().all(|entry| entry.value.is_some()) {
            list.push(b"long", &value);
            count += 1;
        }
        assert!(count > 60, "{count}");
        assert_eq!(list.iter().nth(1).unwrap().value.unwrap().len(), MAX_VALUE);
        list.push(&[b'k'; 2 * MAX_BYTES], b"");
        assert_eq!(list.unnamed(), 1);
        list.clear();
        assert_eq!((list.iter().count(), list.unnamed()), (0, 0));
    }
}
