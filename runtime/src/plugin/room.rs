//! Memory for the results of one call of the host, so that a plugin's output is bounded for a whole
//! request and not only for a batch.
//!
//! Results are counted as they come out of a plugin. Those that do not fit are dropped, and their
//! items count as not run: the caller uses what it has, and runs the rest when there is room again.
//! A plugin has no memory, so nothing happens twice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crate::budget::Reservation;
use crate::model::Change;
use crate::plugin::batch::Verdict;
use crate::plugin::bindings::Answer;
use crate::plugin::log::Heard;

/// The memory that a change takes in addition to its bytes.
const CHANGE_OVERHEAD_BYTES: usize = 256;
/// The memory that any other result takes in addition to its bytes.
const OVERHEAD_BYTES: usize = 64;

/// Memory for results.
#[derive(Debug)]
pub struct Room {
    /// What is taken belongs to this reservation; the caller returns it.
    memory: Option<Arc<Reservation>>,
    bytes_max: u64,
    /// There is room for one result, whatever its size.
    always_one: bool,
    taken: AtomicU64,
    refused: AtomicBool,
    /// Bytes of the largest result for which there was no room.
    wanted: AtomicU64,
    /// Where the lines are kept that plugins log meanwhile, if somebody looks.
    heard: OnceLock<Heard>,
}

impl Room {
    /// At most `bytes_max` bytes of results, but always one result if the reservation can hold it.
    pub fn new(memory: Arc<Reservation>, bytes_max: u64) -> Arc<Room> {
        Room::of(Some(memory), bytes_max, true)
    }

    /// At most `bytes_max` bytes of results that belong to no reservation. With `always_one` one
    /// result may have more.
    pub fn apart(bytes_max: u64, always_one: bool) -> Arc<Room> {
        Room::of(None, bytes_max, always_one)
    }

    fn of(memory: Option<Arc<Reservation>>, bytes_max: u64, always_one: bool) -> Arc<Room> {
        Arc::new(Room {
            memory,
            bytes_max,
            always_one,
            taken: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            wanted: AtomicU64::new(0),
            heard: OnceLock::new(),
        })
    }

    /// Keeps the lines that plugins log from now on, as well as logging them.
    pub fn listen(&self) {
        self.heard.get_or_init(Heard::default);
    }

    /// Where lines are kept, after [`Room::listen`].
    pub(super) fn heard(&self) -> Option<&Heard> {
        self.heard.get()
    }

    /// The lines that a plugin has logged since [`Room::listen`], each with its level.
    pub fn lines_of(&self, plugin: &str) -> Vec<String> {
        let lines = self
            .heard()
            .map(|heard| heard.of(plugin))
            .unwrap_or_default();
        let lines = lines.into_iter();
        lines
            .map(|line| format!("{}: {}", line.level.name(), line.message))
            .collect()
    }

    /// The bytes of the results that the caller got.
    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Whether there was no room for some result, so that verdicts are missing.
    pub fn was_full(&self) -> bool {
        self.refused.load(Relaxed)
    }

    /// The bytes of the largest result for which there was no room.
    pub fn wanted(&self) -> u64 {
        self.wanted.load(Relaxed)
    }

    /// Whether there was room for these bytes; they are taken then.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let fits = self.try_take(bytes);
        if !fits {
            self.wanted.fetch_max(bytes, Relaxed);
            self.refused.store(true, Relaxed);
        }
        fits
    }

    fn try_take(&self, bytes: u64) -> bool {
        let grown = self.taken.fetch_update(Relaxed, Relaxed, |taken| {
            let first = self.always_one && taken == 0;
            (first || taken + bytes <= self.bytes_max).then_some(taken + bytes)
        });
        if grown.is_err() {
            return false;
        }
        let grows = |memory: &Arc<Reservation>| memory.grow(bytes).is_ok();
        let fits = self.memory.as_ref().is_none_or(grows);
        if !fits {
            self.taken.fetch_sub(bytes, Relaxed);
        }
        fits
    }

    /// Returns the memory of results that are not used.
    pub(super) fn give_back(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Relaxed);
        if let Some(memory) = &self.memory {
            memory.shrink(bytes);
        }
    }
}

/// The approximate memory of a result that a plugin made.
pub(super) fn bytes_of(answer: &Answer) -> u64 {
    let bytes = match answer {
        Answer::Accepted(_) => 0,
        Answer::Changes(changes) => changes.iter().map(bytes_of_change).sum(),
        Answer::Rendered(None) => 0,
        Answer::Rendered(Some(rendering)) => rendering.body.as_bytes().len(),
    };
    (bytes + OVERHEAD_BYTES) as u64
}

/// The same of a verdict, whose item took that room.
pub(super) fn bytes_of_verdict(verdict: &Verdict) -> u64 {
    match verdict {
        Verdict::Made(answer) => bytes_of(answer),
        Verdict::Passed | Verdict::Filtered(_) | Verdict::Failed(_) => 0,
    }
}

fn bytes_of_change(change: &Change) -> usize {
    let value = change.value.as_ref().map_or(0, |value| value.len());
    value + change.entity_type.len() + change.key.len() + change.facet.len() + CHANGE_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    #[test]
    fn results_take_what_is_there_and_one_always_fits() {
        let memory = Arc::new(Budget::new(1000).reservation("erp"));
        let room = Room::new(memory.clone(), 100);
        assert!(
            room.take(300),
            "the first, though it is larger than the bound"
        );
        assert!(!room.was_full() && !room.take(1) && room.was_full());
        room.give_back(300);
        assert!(room.take(60) && room.take(40) && !room.take(1));
        assert_eq!((room.taken(), memory.held()), (100, 100));
        let strict = Room::apart(100, false);
        assert!(!strict.take(300) && !strict.take(120) && strict.take(100));
        assert_eq!((strict.wanted(), strict.taken()), (300, 100));
        let other = Room::new(memory.clone(), 2000);
        assert!(!other.take(901), "more than the reservation can hold");
        assert!(other.take(900));
        assert_eq!((other.taken(), memory.held()), (900, 1000));
    }
}
