//! The contexts of a VM, by their ids.

use crate::dispatch::Context;

/// An open table: the slots of an id begin at a place that its bits choose, and go on to the first
/// empty one. At most half of the slots are taken.
pub(crate) struct Contexts {
    slots: Vec<Option<(u32, Context)>>,
    count: usize,
}

/// The slots of the first context.
const FIRST: usize = 16;

impl Contexts {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            count: 0,
        }
    }

    pub(crate) fn get(&mut self, id: u32) -> Option<&mut Context> {
        let place = self.place(id)?;
        let slot = self.slots.get_mut(place)?.as_mut();
        slot.map(|(_, context)| context)
    }

    /// Returns the context that had the id.
    #[inline(never)]
    pub(crate) fn insert(&mut self, id: u32, context: Context) -> Option<Context> {
        if 2 * (self.count + 1) > self.slots.len() {
            self.grow();
        }
        let place = self.place(id)?;
        let slot = self.slots.get_mut(place)?;
        let before = slot.replace((id, context));
        self.count += usize::from(before.is_none());
        before.map(|(_, context)| context)
    }

    #[inline(never)]
    pub(crate) fn remove(&mut self, id: u32) -> Option<Context> {
        let mut place = self.place(id)?;
        let (_, removed) = self.slots.get_mut(place)?.take()?;
        self.count -= 1;
        // Those behind it may have wanted the slot that is empty now.
        loop {
            place = self.after(place);
            let Some((id, context)) = self.slots.get_mut(place).and_then(Option::take) else {
                return Some(removed);
            };
            self.put(id, context);
        }
    }

    #[inline(never)]
    fn grow(&mut self) {
        let size = (2 * self.slots.len()).max(FIRST);
        let mut slots = Vec::new();
        slots.resize_with(size, || None);
        let before = core::mem::replace(&mut self.slots, slots);
        for (id, context) in before.into_iter().flatten() {
            self.put(id, context);
        }
    }

    fn put(&mut self, id: u32, context: Context) {
        let slot = self.place(id).and_then(|place| self.slots.get_mut(place));
        if let Some(slot) = slot {
            *slot = Some((id, context));
        }
    }

    /// The slot of the id: its own, or the empty one where it would be. `None` without slots.
    fn place(&self, id: u32) -> Option<usize> {
        // Ids follow each other; this spreads them over the slots (Fibonacci hashing).
        let spread = id.wrapping_mul(0x9e37_79b9);
        let bits = self.slots.len().checked_ilog2()?;
        let mut place = (spread >> (u32::BITS - bits)) as usize;
        while let Some(Some((taken, _))) = self.slots.get(place) {
            if *taken == id {
                break;
            }
            place = self.after(place);
        }
        Some(place)
    }

    fn after(&self, place: usize) -> usize {
        match place + 1 {
            next if next < self.slots.len() => next,
            _ => 0,
        }
    }
}
