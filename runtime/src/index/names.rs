//! Names as numbers, because facet names, owners, entity types and sources recur millions of times.

use std::collections::HashMap;
use std::sync::Arc;

/// Maximum number of names; this stops a mapper that invents facet names.
pub const NAMES_MAX: usize = 65_536;

/// A dictionary that only grows.
#[derive(Clone, Debug, Default)]
pub struct Names {
    by_name: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
}

impl Names {
    /// The number of a name, if it has one.
    pub fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The number of a name; a new name gets the next number.
    pub fn number(&mut self, name: &Arc<str>) -> u32 {
        if let Some(number) = self.find(name) {
            return number;
        }
        let number = self.names.len() as u32;
        self.by_name.insert(name.clone(), number);
        self.names.push(name.clone());
        number
    }

    /// The name with this number, if the number was given out here.
    pub fn name(&self, number: u32) -> Option<&Arc<str>> {
        self.names.get(number as usize)
    }

    /// All names, by number.
    pub fn all(&self) -> &[Arc<str>] {
        &self.names
    }

    /// The number of names.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// Whether `more` new names would fit.
    pub fn has_room_for(&self, more: usize) -> bool {
        self.names.len() + more <= NAMES_MAX
    }
}
