//! When a redriven event arrived.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::Sequence;
use crate::sync::lock;

/// The place in time of an event that is redriven from quarantine: it loses against a facet that has changed since
/// it arrived, unless an event that arrived before it changed the facet, in the same redrive.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The sequence that it got on arrival.
    pub sequence: Sequence,
    /// Where it is in quarantine, and stays if it fails again. `None` for an event that was read from a body
    /// that is kept there.
    pub place: Option<Sequence>,
    /// What the redrive has written.
    pub redrive: Redrive,
}

impl Arrival {
    /// That of an event in quarantine that is redriven by itself.
    pub fn of(sequence: Sequence) -> Arrival {
        Arrival {
            sequence,
            place: Some(sequence),
            redrive: Redrive::default(),
        }
    }

    /// Whether a facet whose last change has this sequence has changed since the arrival.
    pub fn is_overtaken(&self, changed: u64) -> bool {
        changed > self.sequence.0 && !self.redrive.wrote_for(changed, self.sequence)
    }

    /// Records the sequence of a change of the event.
    pub fn wrote(&self, change: u64) {
        lock(&self.redrive.0).insert(change, self.sequence);
    }
}

/// The changes that a redrive has written: for the sequence of each, that of its event on arrival. Clones share
/// them.
#[derive(Clone, Debug, Default)]
pub struct Redrive(Arc<Mutex<HashMap<u64, Sequence>>>);

impl Redrive {
    /// Whether the redrive wrote this change for an event that had arrived by then.
    fn wrote_for(&self, change: u64, by: Sequence) -> bool {
        let written = lock(&self.0);
        written.get(&change).is_some_and(|arrival| *arrival <= by)
    }
}
