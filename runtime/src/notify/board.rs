//! Which conditions hold and since when, how often each has begun, and how it ended. Pure: time is an
//! argument.

use std::collections::{BTreeMap, BTreeSet};

use super::{Condition, Key, Subject};
use crate::model::Timestamp;

/// How long a condition that is over is remembered, in milliseconds: longer than a receiver waits before it
/// tells that (`told`).
const REMEMBERED_MS: u64 = 2 * 3600 * 1000;

/// All conditions, by kind and subject.
pub type Entries = BTreeMap<Key, Entry>;

/// A condition that holds or is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// As it was seen last.
    pub(super) condition: Condition,
    /// How often it has begun since it was first seen.
    pub(super) begun: u64,
    /// When and how it ended; `None` if it holds.
    pub(super) ended: Option<Ended>,
}

/// The end of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) at: Timestamp,
    pub(super) how: How,
}

/// How a condition ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// By itself.
    Over,
    /// A reload has put another subject of the same name in its place, of which nothing is known yet.
    Replaced,
    /// A reload has removed the subject.
    Removed,
}

/// Whether a subject is there, and its identity.
pub type There<'a> = &'a dyn Fn(&Subject) -> Option<usize>;

/// The memory of what was seen.
#[derive(Debug, Default)]
pub struct Board(Entries);

impl Board {
    /// Takes in the conditions that hold now.
    pub fn look(&mut self, now: Timestamp, holding: Vec<Condition>, there: There<'_>) {
        let held = self.0.iter().filter(|(_, entry)| entry.ended.is_none());
        let mut over: BTreeSet<Key> = held.map(|(key, _)| key.clone()).collect();
        for condition in holding {
            let key = (condition.kind, condition.subject.clone());
            over.remove(&key);
            let before = self.0.get(&key);
            let (since, begun) = match before {
                Some(entry) if entry.ended.is_none() => (entry.condition.since, entry.begun),
                Some(entry) => (condition.since, entry.begun + 1),
                None => (condition.since, 1),
            };
            let entry = Entry {
                condition: Condition { since, ..condition },
                begun,
                ended: None,
            };
            self.0.insert(key, entry);
        }
        for key in over {
            if let Some(entry) = self.0.get_mut(&key) {
                let how = match there(&key.1) {
                    None => How::Removed,
                    Some(identity) if identity != entry.condition.identity => How::Replaced,
                    Some(_) => How::Over,
                };
                entry.ended = Some(Ended { at: now, how });
            }
        }
        self.0.retain(|_, entry| {
            let ended = entry.ended.as_ref();
            ended.is_none_or(|ended| now.0 < ended.at.0.saturating_add(REMEMBERED_MS))
        });
    }

    /// What is remembered.
    pub fn entries(&self) -> &Entries {
        &self.0
    }
}
