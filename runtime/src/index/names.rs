//! Names as numbers, because facet names, owners, entity types and sources recur millions of times.
//!
//! The names of owners, types and sources are as few as the configuration has, and are kept for
//! good. Names of facets come from the data: a number is freed when the last entity with a facet of
//! this name has lost it, and is given out again once that is written.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Maximum number of names; this stops a mapper that invents facet names.
pub const NAMES_MAX: usize = 65_536;

/// A dictionary.
#[derive(Clone, Debug, Default)]
pub struct Names {
    by_name: HashMap<Arc<str>, u32>,
    slots: Vec<Slot>,
    /// Numbers without a name; the lowest is given out first.
    free: BTreeSet<u32>,
    /// Numbers that lost their name since the last [`Names::take_changed`]. Records on disk may still
    /// use them, so another name gets them only after the records that do not.
    freed: BTreeSet<u32>,
    /// Numbers whose name differs from what is written.
    changed: BTreeSet<u32>,
}

/// A number of the dictionary.
#[derive(Clone, Debug, Default)]
struct Slot {
    name: Option<Arc<str>>,
    /// How many entities have a facet of this name.
    entities: u32,
    /// Whether an owner, a type or a source has this name.
    kept: bool,
}

impl Names {
    /// The number of a name, if it has one.
    pub fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The number of a name; a new name gets the lowest free number.
    pub fn number(&mut self, name: &Arc<str>) -> u32 {
        if let Some(number) = self.find(name) {
            return number;
        }
        let number = self.free.pop_first().unwrap_or(self.slots.len() as u32);
        self.put(number, name.clone());
        self.changed.insert(number);
        number
    }

    /// The number of the name of an owner, a type or a source, which is kept for good.
    pub fn keep_name(&mut self, name: &Arc<str>) -> u32 {
        let number = self.number(name);
        self.keep(number);
        number
    }

    /// Puts back a name that was read from disk. Returns `None` if there can be no such number.
    pub fn restore(&mut self, number: u32, name: Arc<str>) -> Option<()> {
        if number as usize >= NAMES_MAX {
            return None;
        }
        self.free.extend(self.slots.len() as u32..number);
        self.free.remove(&number);
        self.put(number, name);
        Some(())
    }

    fn put(&mut self, number: u32, name: Arc<str>) {
        if self.slots.len() <= number as usize {
            self.slots.resize_with(number as usize + 1, Slot::default);
        }
        self.by_name.insert(name.clone(), number);
        self.slots[number as usize].name = Some(name);
    }

    /// Keeps a number for good: an owner, a type or a source has this name.
    pub fn keep(&mut self, number: u32) {
        if let Some(slot) = self.slots.get_mut(number as usize) {
            slot.kept = true;
        }
    }

    /// Counts an entity that has got a facet of this name.
    pub fn add_entity(&mut self, number: u32) {
        if let Some(slot) = self.slots.get_mut(number as usize) {
            slot.entities += 1;
        }
    }

    /// Counts an entity that has lost a facet of this name. Returns whether that freed the number.
    pub fn remove_entity(&mut self, number: u32) -> bool {
        if let Some(slot) = self.slots.get_mut(number as usize) {
            slot.entities = slot.entities.saturating_sub(1);
        }
        self.free_if_unused(number)
    }

    /// Frees the numbers that nothing has used since everything was restored.
    pub fn free_unused(&mut self) {
        for number in 0..self.slots.len() as u32 {
            self.free_if_unused(number);
        }
    }

    fn free_if_unused(&mut self, number: u32) -> bool {
        let Some(slot) = self
            .slots
            .get_mut(number as usize)
            .filter(|slot| slot.entities == 0 && !slot.kept)
        else {
            return false;
        };
        let Some(name) = slot.name.take() else {
            return false;
        };
        self.by_name.remove(&name);
        self.freed.insert(number);
        self.changed.insert(number);
        true
    }

    /// The name with this number.
    pub fn name(&self, number: u32) -> Option<&Arc<str>> {
        self.slots.get(number as usize)?.name.as_ref()
    }

    /// All numbers with their names.
    pub fn all(&self) -> impl Iterator<Item = Option<Arc<str>>> {
        self.slots.iter().map(|slot| slot.name.clone())
    }

    /// The numbers whose name has changed since the last call, with their names. The caller must
    /// write them, in one batch with the records that got or lost these names, before it asks for
    /// another number: those that were freed are given out again from now on.
    pub fn take_changed(&mut self) -> Vec<(u32, Option<Arc<str>>)> {
        self.free.append(&mut self.freed);
        let changed = std::mem::take(&mut self.changed);
        changed
            .into_iter()
            .map(|number| (number, self.name(number).cloned()))
            .collect()
    }

    /// The number of names.
    pub fn count(&self) -> usize {
        self.by_name.len()
    }

    /// Whether `more` new names would fit.
    pub fn has_room_for(&self, more: usize) -> bool {
        self.count() + self.freed.len() + more <= NAMES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_out_again_when_the_last_entity_has_lost_its_name() {
        let mut names = Names::default();
        let number = |names: &mut Names, name: &str| names.number(&name.into());
        let (owner, may, june) = (
            number(&mut names, "erp"),
            number(&mut names, "price.may"),
            number(&mut names, "price.june"),
        );
        names.keep(owner);
        for facet in [may, may, june] {
            names.add_entity(facet);
        }
        names.take_changed();
        assert!(!names.remove_entity(may), "another entity has it");
        assert!(names.remove_entity(may));
        assert_eq!((names.find("price.may"), names.name(may)), (None, None));
        let august = number(&mut names, "price.august");
        assert_ne!(
            august, may,
            "records on disk use the number until it is written that they do not"
        );
        let written = [(may, None), (august, Some("price.august".into()))];
        assert_eq!(names.take_changed(), written);
        assert_eq!(number(&mut names, "price.july"), may);
        assert_eq!(names.take_changed(), [(may, Some("price.july".into()))]);
        names.add_entity(may);
        names.free_unused();
        assert_eq!(names.count(), 3, "{names:?}");
    }

    #[test]
    fn a_dictionary_with_holes_is_restored() {
        let mut names = Names::default();
        for (number, name) in [(1, "b"), (4, "e")] {
            names.restore(number, name.into()).unwrap();
        }
        assert_eq!(names.restore(NAMES_MAX as u32, "z".into()), None);
        let next: Vec<u32> = ["x", "b", "y", "z", "w"]
            .map(|name| names.number(&name.into()))
            .into();
        assert_eq!(next, [0, 1, 2, 3, 5]);
    }
}
