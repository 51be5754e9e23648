//! The clock of dispatch. It is passed in, so that tests can control time.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::latency::Moment;
use crate::model::Timestamp;

/// A clock that never runs backwards: the wall clock at its start plus the time elapsed since. All
/// parts of dispatch that compare times must share one.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Timestamp,
    since: Instant,
    /// If false, the wall clock is computed as well, and stops when tokio's time is paused.
    system: bool,
}

impl Clock {
    /// The clock of this machine.
    pub fn system() -> Clock {
        Clock {
            start: timestamp(SystemTime::now()),
            since: Instant::now(),
            system: true,
        }
    }

    /// A clock that starts at `start` and follows tokio's time, which tests can pause.
    #[cfg(test)]
    pub(crate) fn starting_at(start: Timestamp) -> Clock {
        Clock {
            start,
            since: Instant::now(),
            system: false,
        }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.start.0 + self.elapsed().as_millis() as u64)
    }

    /// The wall clock, for timestamps that others read. It may have been set back.
    pub(crate) fn wall(&self) -> SystemTime {
        match self.system {
            true => SystemTime::now(),
            false => SystemTime::UNIX_EPOCH + Duration::from_millis(self.now().0),
        }
    }

    /// The wall clock as a timestamp, as the store stamps changes.
    pub(crate) fn stamp(&self) -> Timestamp {
        timestamp(self.wall())
    }

    /// Both clocks, read at one moment.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            now: self.now(),
            wall: self.stamp(),
        }
    }

    /// The time since the clock was started.
    pub(crate) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// The instant at which the clock reaches `time`.
    pub(crate) fn instant(&self, time: Timestamp) -> Instant {
        self.since + Duration::from_millis(time.0.saturating_sub(self.start.0))
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_of_a_test_moves_only_with_its_time() {
        let clock = Clock::starting_at(Timestamp(5_000));
        assert_eq!(clock.now(), Timestamp(5_000));
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(
            (clock.now(), clock.stamp(), clock.elapsed()),
            (
                Timestamp(5_250),
                Timestamp(5_250),
                Duration::from_millis(250)
            )
        );
        let later = clock.instant(Timestamp(6_000));
        assert_eq!(later - Instant::now(), Duration::from_millis(750));
    }
}
