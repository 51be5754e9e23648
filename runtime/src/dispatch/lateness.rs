//! The seconds during which a channel was late: its oldest change was owed for longer than its objective
//! allows.
//!
//! They are counted by looking, and not at deliveries: while nothing is delivered, nothing is delivered
//! late. A look goes through what is parked and in flight, so that of many channels in trouble each is
//! looked at less often; the time between two looks is counted all the same.

use std::time::Duration;

/// The least time between two looks.
const EVERY: Duration = Duration::from_millis(900);
/// Looking at all channels takes at most this share of a processor: one of so many parts.
const SHARE: u32 = 100;

/// When a channel was looked at, and when it is again.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    last: Option<Duration>,
    next: Duration,
}

impl Lateness {
    /// The time since the last look during which the channel was late. `now` is the time elapsed since any
    /// moment, and `overdue` finds out for how long the oldest change might have been sent.
    pub(super) fn look(
        &mut self,
        objective: Option<Duration>,
        now: Duration,
        channels: usize,
        overdue: impl FnOnce() -> Duration,
    ) -> Duration {
        let Some(objective) = objective else {
            self.last = None;
            return Duration::ZERO;
        };
        if now < self.next {
            return Duration::ZERO;
        }
        let began = std::time::Instant::now();
        let late = overdue().saturating_sub(objective);
        let took = began.elapsed() * SHARE * u32::try_from(channels).unwrap_or(u32::MAX);
        self.next = now + EVERY.max(took);
        let since_last = self.last.map_or(Duration::ZERO, |last| now - last);
        self.last = Some(now);
        late.min(since_last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks each second at a channel that is overdue for so many seconds.
    fn late(objective: Option<u32>, overdue: &[u32]) -> Duration {
        let mut lateness = Lateness::default();
        let looks = (1..).zip(overdue).map(|(second, overdue)| {
            let objective = objective.map(|objective| SECOND * objective);
            lateness.look(objective, SECOND * second, 1, || SECOND * *overdue)
        });
        looks.sum()
    }

    // An objective that is counted in deliveries is met during an outage.
    #[test]
    fn seconds_count_as_late_while_nothing_is_delivered() {
        assert_eq!(late(Some(2), &[0, 1, 2, 3, 4, 5, 6]), SECOND * 4);
        assert_eq!(late(Some(2), &[0, 1, 2, 3, 0, 1, 0]), SECOND);
        assert_eq!(late(Some(2), &[0, 0, 0]), Duration::ZERO);
        assert_eq!(late(None, &[100, 101, 102]), Duration::ZERO);
        // Nobody knows since when it was late before the first look.
        assert_eq!(late(Some(2), &[100]), Duration::ZERO);
    }

    #[test]
    fn what_lies_between_two_distant_looks_counts() {
        let mut lateness = Lateness::default();
        let mut look =
            |at, overdue| lateness.look(Some(SECOND), SECOND * at, 1, || SECOND * overdue);
        look(1, 0);
        assert_eq!(
            look(31, 11),
            SECOND * 10,
            "late since it was overdue for a second"
        );
        assert_eq!(look(61, 41), SECOND * 30, "late all the time");
    }
}
