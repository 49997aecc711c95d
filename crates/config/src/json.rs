//! The members of an object and the items of a list, as parts of the text that has them.

use core::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object.
#[derive(Default)]
pub(crate) struct Members<'v>(pub(crate) Vec<(String, &'v str)>);

/// The items of a list.
#[derive(Default)]
pub(crate) struct Items<'v>(pub(crate) Vec<&'v str>);

struct ReadMembers;

struct ReadItems;

impl<'v> Deserialize<'v> for Members<'v> {
    fn deserialize<D: Deserializer<'v>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ReadMembers)
    }
}

impl<'v> Visitor<'v> for ReadMembers {
    type Value = Members<'v>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'v>>(self, mut map: A) -> Result<Members<'v>, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            members.push((name, value.get()));
        }
        Ok(Members(members))
    }
}

impl<'v> Deserialize<'v> for Items<'v> {
    fn deserialize<D: Deserializer<'v>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ReadItems)
    }
}

impl<'v> Visitor<'v> for ReadItems {
    type Value = Items<'v>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'v>>(self, mut list: A) -> Result<Items<'v>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element::<&RawValue>()? {
            items.push(item.get());
        }
        Ok(Items(items))
    }
}
