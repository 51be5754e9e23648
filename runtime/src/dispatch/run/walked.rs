//! Tells a feed when its channel has met all of its entities: only then is what it holds complete.
//!
//! That is so when the sweep has ended, nothing of it is in flight or parked, and all changes are settled
//! that were owed when it ended. Later changes may be owed: they are in a later generation. A sweep that
//! begins (a new channel, a resync, a new shape) makes it incomplete.

use std::time::Duration;

use tokio::time::Instant;

use super::super::turns::TRACKS;
use super::Run;
use crate::model::{Sequence, Timestamp};

/// How often it is looked whether everything was met, until it was.
const LOOK: Duration = Duration::from_millis(200);
/// Before the first generation, the oldest change owed must be younger than this: a catalogue that is just
/// being loaded would be published in part.
const RECENT: Duration = Duration::from_secs(10);

/// How far a channel is in meeting all of its entities.
#[derive(Default)]
pub(super) struct Walk {
    complete: bool,
    /// The newest sequence when the sweep had ended.
    ended: Option<Sequence>,
    looks_at: Option<Instant>,
}

impl Run {
    /// Looks and tells the feed, if the target is one.
    pub(super) fn report_walked(&mut self) {
        let target = self.setup.target.clone();
        let Some(feed) = target.feed() else {
            return;
        };
        // It has started over. What was met before is owed again, unless there is nothing.
        if self.walk.complete && !feed.is_walked() {
            self.walk = Walk::default();
        }
        let now = Instant::now();
        if self.walk.complete || self.walk.looks_at.is_some_and(|at| at > now) {
            return;
        }
        self.walk.looks_at = Some(now + LOOK);
        self.walk.complete =
            self.setup.options.deliver && self.has_met_all(feed.published().is_none());
        if self.walk.complete {
            feed.walked(true);
        }
    }

    fn has_met_all(&mut self, first: bool) -> bool {
        let owed = self.queue.owed();
        if owed.sweep > 0 || self.in_track[TRACKS - 1] > 0 || self.reserving.is_some() {
            self.walk.ended = None;
            return false;
        }
        let head = *self
            .walk
            .ended
            .get_or_insert_with(|| *self.watermark.borrow());
        // Withdrawals that the guard holds stay as they are in the feed, and an operator may take days.
        let nothing = owed.total() == owed.held;
        let recent = |time: Timestamp| {
            let age = self.clock.stamp().0.saturating_sub(time.0);
            age < RECENT.as_millis() as u64
        };
        let is_later =
            |(oldest, time): (Sequence, Timestamp)| oldest > head && (!first || recent(time));
        nothing || owed.parked == 0 && owed.oldest_not_held.is_none_or(is_later)
    }

    /// All entities have to be met again.
    pub(super) fn walks_again(&mut self) {
        self.walk = Walk::default();
        if let Some(feed) = self.setup.target.feed() {
            feed.walked(false);
        }
    }

    /// When it is looked again.
    pub(super) fn walk_look(&self) -> Option<Instant> {
        let looks = !self.walk.complete && self.setup.target.feed().is_some();
        self.walk.looks_at.filter(|_| looks)
    }
}
