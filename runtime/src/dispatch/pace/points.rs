//! The points of an API that counts the cost of each request (Shopify): a bucket that refills. Pure:
//! time is an argument.
//!
//! Each answer says how many points are left, how fast they come back, and what the request had to
//! find there before it ran, which may be more than it used. A request starts when that much is there
//! for the next one. Those on their way are counted, because the API may not have seen them yet; what
//! other clients use shows in the next answer.

use std::time::Duration;

use crate::targets::PointsLeft;

/// By how much the points that a request is assumed to need fall from one answer to the next, at most.
const NEEDED_FALLS: f64 = 0.9;
/// By how much more than that is waited for: what is known is never quite exact, and a reserve that
/// stays costs nothing.
const RESERVE: f64 = 1.1;
/// The time over which it is learned how many points other clients use, in seconds.
const OTHERS: f64 = 5.0;
/// The longest wait, in seconds; a longer one is more likely a mistake than intended.
const WAIT_MAX: f64 = 3600.0;
/// The share of the points that other clients are assumed to use at most.
const OTHERS_MAX: f64 = 0.95;

/// The bucket as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Points {
    left: f64,
    most: f64,
    per_second: f64,
    /// Points that the next request is assumed to need.
    needed: f64,
    /// When `left` was right.
    at: Duration,
    /// Points per second that other clients use, and how many were deducted for them since the last
    /// answer.
    others: f64,
    deducted: f64,
    answered: Duration,
}

impl Points {
    /// What an answer at `now` says, while `more` requests are on their way.
    pub(crate) fn first(now: Duration, told: &PointsLeft, more: u32) -> Points {
        Points {
            left: least(told, told.needed * f64::from(more)),
            most: told.most,
            per_second: told.per_second,
            needed: told.needed,
            at: now,
            others: 0.0,
            deducted: 0.0,
            answered: now,
        }
    }

    /// What a further answer says, to a request that took `taken` points here, while `more` are on their
    /// way.
    pub(crate) fn answered(&mut self, now: Duration, told: &PointsLeft, taken: f64, more: u32) {
        self.advance(now);
        (self.most, self.per_second) = (told.most, told.per_second);
        self.needed = told.needed.max(self.needed * NEEDED_FALLS);
        // The API took what the request needed, and has given back what it did not use.
        let alone = self.left + self.deducted + taken - told.used;
        // It may not have seen those that are on their way.
        let unseen = self.needed * f64::from(more);
        let left = alone.clamp(least(told, unseen), told.left);
        let by_others = alone - left;
        let passed = now.saturating_sub(self.answered).as_secs_f64();
        self.others = match passed < OTHERS {
            true => self.others + (by_others - self.others * passed) / OTHERS,
            false => by_others / passed,
        }
        .clamp(0.0, OTHERS_MAX * self.per_second);
        (self.left, self.deducted, self.answered) = (left, 0.0, now);
    }

    /// How long it takes until a request finds what it needs.
    pub(crate) fn wait(&self, now: Duration) -> Duration {
        let rate = self.per_second - self.others;
        let passed = now.saturating_sub(self.at).as_secs_f64();
        // A full bucket must do.
        let missing = (self.needed * RESERVE).min(self.most) - self.left - passed * rate;
        Duration::from_secs_f64((missing / rate).clamp(0.0, WAIT_MAX))
    }

    /// Takes the points of a request out, and returns how many.
    pub(crate) fn take(&mut self, now: Duration) -> f64 {
        self.advance(now);
        self.left -= self.needed;
        self.needed
    }

    /// A request that took points is not made, or its answer says nothing about them.
    pub(crate) fn give_back(&mut self, taken: f64) {
        self.left = (self.left + taken).min(self.most);
    }

    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        let others = passed * self.others;
        self.left = (self.left + passed * self.per_second - others).min(self.most);
        self.deducted += others;
        self.at = self.at.max(now);
    }
}

/// What is left at least when the API has seen requests that need so many points: it refuses those that
/// find too few, and takes nothing for them.
fn least(told: &PointsLeft, unseen: f64) -> f64 {
    (told.left - unseen).max(told.left.min(0.0))
}
