//! What became of the changes that a channel subscribes to, since it was started.
//!
//! A change is counted once, by what became of it last. How many were superseded by newer ones is not
//! counted but derived: a commit must cost the same for one channel and for a hundred. While the channel
//! owes something, that is an estimate, because what it owes is known as an upper bound only.

use super::status::{Counters, DeliveryResult};
use crate::store::Owed;

/// The changes of a channel, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flow {
    /// Changes of facets that the channel subscribes to.
    pub changes: u64,
    /// Superseded by newer changes of the same entity before they were sent.
    pub coalesced: u64,
    /// Settled, by result.
    pub settled: [u64; DeliveryResult::ALL.len()],
    /// Still owed; an upper bound.
    pub owed: u64,
    /// Entities that were sent again, because an attempt had failed.
    pub retried: u64,
    /// Entities that were delivered or withdrawn without a new change: after a resync, by a sweep, once more
    /// by an operator, or changed before the start.
    pub unasked: u64,
}

impl Flow {
    pub(super) fn new(changes: u64, counters: &Counters, owed: &Owed) -> Flow {
        let settled = DeliveryResult::ALL.map(|result| counters.settled(result));
        let all: u64 = settled.iter().sum();
        let owed = owed.total() - owed.sweep;
        let arrived = [DeliveryResult::Delivered, DeliveryResult::Withdrawn];
        let unasked = arrived.map(|result| {
            let ended = counters.count(result);
            ended.saturating_sub(counters.settled(result))
        });
        Flow {
            changes,
            coalesced: changes.saturating_sub(all + owed),
            settled,
            owed,
            retried: counters.retried(),
            unasked: unasked.iter().sum(),
        }
    }

    /// How many entities were settled this way.
    pub fn count(&self, result: DeliveryResult) -> u64 {
        self.settled[result as usize]
    }

    /// Whether the number of coalesced changes is an estimate.
    pub fn is_estimate(&self) -> bool {
        self.owed > 0
    }

    /// What was sent for each change that came: below 1 the channel is spared work, above it work is
    /// multiplied. `None` before the first change.
    pub fn factor(&self) -> Option<f64> {
        let arrived = [DeliveryResult::Delivered, DeliveryResult::Withdrawn];
        let sent = arrived.map(|result| self.count(result)).iter().sum::<u64>();
        let sent = sent + self.retried + self.unasked;
        (self.changes > 0).then(|| sent as f64 / self.changes as f64)
    }
}

/// The changes that a channel subscribes to since it was started. They are counted since the store was
/// opened, and of what the channel subscribes to at the moment.
#[derive(Debug, Default)]
pub(super) struct Changes {
    before: u64,
    base: u64,
}

impl Changes {
    pub(super) fn since(base: u64) -> Changes {
        Changes { before: 0, base }
    }

    pub(super) fn count(&self, now: u64) -> u64 {
        self.before + now.saturating_sub(self.base)
    }

    /// The subscription changes: there were `old` changes of the old one, and `new` of the new one.
    pub(super) fn resubscribed(&mut self, old: u64, new: u64) {
        *self = Changes {
            before: self.count(old),
            base: new,
        };
    }
}
