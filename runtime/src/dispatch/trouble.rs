//! When deliveries of a channel begin to fail, and when they are well again: one report of each, with
//! counts, however many entities fail. Pure: time is an argument.

use crate::model::Timestamp;

/// Milliseconds without a failure after which the channel is well again, if nothing waits for a retry.
const CALM_MS: u64 = 10_000;

/// The failures since the channel was well.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble {
    begun: Option<Timestamp>,
    last: Timestamp,
    failed: u64,
    refused: u64,
}

/// A trouble that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// How long it lasted.
    pub(crate) seconds: u64,
    /// Failed attempts.
    pub(crate) failed: u64,
    /// Refused entities.
    pub(crate) refused: u64,
}

impl Trouble {
    /// Counts a failed attempt, or a refused entity. Returns whether the trouble begins with it.
    pub(crate) fn note(&mut self, now: Timestamp, refused: bool) -> bool {
        let begins = self.begun.is_none();
        self.begun.get_or_insert(now);
        self.last = now;
        self.failed += u64::from(!refused);
        self.refused += u64::from(refused);
        begins
    }

    /// When the trouble ends if nothing else fails; `None` if there is none.
    pub(crate) fn ends_at(&self) -> Option<Timestamp> {
        self.begun.map(|_| Timestamp(self.last.0 + CALM_MS))
    }

    /// Ends the trouble if its time has come.
    pub(crate) fn end(&mut self, now: Timestamp) -> Option<Ended> {
        let begun = self.begun.filter(|_| self.ends_at() <= Some(now))?;
        let ended = Ended {
            seconds: self.last.0.saturating_sub(begun.0) / 1000,
            failed: self.failed,
            refused: self.refused,
        };
        *self = Trouble::default();
        Some(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_reported_when_it_begins_and_when_it_has_ended() {
        let mut trouble = Trouble::default();
        assert_eq!((trouble.ends_at(), trouble.end(Timestamp(5))), (None, None));
        let begins: Vec<bool> = (0..65)
            .map(|number| trouble.note(Timestamp(1000 * number), number % 5 == 0))
            .collect();
        assert_eq!(begins.iter().filter(|begins| **begins).count(), 1);
        assert_eq!(trouble.ends_at(), Some(Timestamp(74_000)));
        assert_eq!(trouble.end(Timestamp(73_999)), None);
        let ended = Ended {
            seconds: 64,
            failed: 52,
            refused: 13,
        };
        assert_eq!(trouble.end(Timestamp(74_000)), Some(ended));
        assert!(trouble.note(Timestamp(80_000), false), "another one");
    }
}
