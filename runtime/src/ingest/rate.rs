//! A rate per second, averaged over the last minute.

use std::sync::Mutex;

use crate::model::Timestamp;
use crate::sync::lock;

/// Number of slots in the window and length of each in milliseconds; together a minute.
const SLOTS: usize = 12;
const SLOT_MS: u64 = 5_000;

/// Counts in slots of five seconds, for a minute. Each call takes a short lock: count batches, not
/// events.
#[derive(Debug, Default)]
pub(super) struct Rate {
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    counts: [u64; SLOTS],
    /// Number of the newest slot since 1970.
    newest: u64,
}

impl Rate {
    /// Counts `n` more.
    pub(super) fn count(&self, n: u64, now: Timestamp) {
        let mut slots = lock(&self.slots);
        let index = slots.turn_to(now);
        slots.counts[index] += n;
    }

    /// The average of the last minute, the present slot included.
    pub(super) fn per_second(&self, now: Timestamp) -> f64 {
        let mut slots = lock(&self.slots);
        slots.turn_to(now);
        let window_ms = (SLOTS as u64 - 1) * SLOT_MS + now.0 % SLOT_MS;
        slots.counts.iter().sum::<u64>() as f64 * 1000.0 / window_ms as f64
    }
}

impl Slots {
    /// Empties the slots older than the window and returns the present one. If the clock goes back,
    /// the newest slot stays the present one.
    fn turn_to(&mut self, now: Timestamp) -> usize {
        let present = (now.0 / SLOT_MS).max(self.newest);
        for passed in (self.newest + 1..=present).rev().take(SLOTS) {
            self.counts[(passed % SLOTS as u64) as usize] = 0;
        }
        self.newest = present;
        (present % SLOTS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_last_minute_and_fades() {
        let rate = Rate::default();
        let start = 1_795_000_000_000;
        for second in 0..120 {
            rate.count(50, Timestamp(start + second * 1000));
        }
        let after = |seconds: u64| rate.per_second(Timestamp(start + seconds * 1000));
        assert!((after(119) - 50.0).abs() < 5.0, "{}", after(119));
        let half = after(150);
        assert!((20.0..30.0).contains(&half), "{half}");
        assert_eq!(after(200), 0.0);
        rate.count(1, Timestamp(start));
        assert!(after(201) > 0.0, "a clock that goes back loses nothing");
    }
}
