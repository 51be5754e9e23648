//! How much log a plugin may cause, over all its instances and the host's own lines about it.
//!
//! A batch may log its limit, but a request can have thousands of batches: the quota holds for a
//! minute. At its end one line says that it is used up; what is dropped from then on is counted, and
//! the count is logged with the first line of a later minute. Time is an argument.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::plugin::limits::Size;
use crate::sync;

/// Bytes of log that a plugin may cause in a minute. A line counts as at least [`LINE_BYTES_MIN`].
const BYTES_MAX: usize = 256 << 10;
/// What a line costs the log in addition to its text, about.
const LINE_BYTES_MIN: usize = 64;
const MINUTE: Duration = Duration::from_secs(60);

/// The quota of one version of a plugin.
#[derive(Debug, Default)]
pub(super) struct Quota {
    minute: Mutex<Minute>,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Minute {
    began: Option<Instant>,
    used: usize,
    dropped: u64,
}

impl Quota {
    /// Logs a line of this many bytes about a plugin, if the quota allows it; and what there is to
    /// say about the quota.
    pub(super) fn log(&self, plugin: &str, bytes: usize, line: impl FnOnce()) {
        let (dropped_before, says) = self.admit(bytes, Instant::now());
        if dropped_before > 0 {
            tracing::warn!(
                plugin,
                dropped = dropped_before,
                "lines of this plugin's log were dropped, because it had used up its quota of a minute"
            );
        }
        match says {
            Says::Line => line(),
            Says::UsedUp => tracing::warn!(
                plugin,
                "the plugin has used up its quota of {} of log in a minute; until the next one its lines are counted and not logged",
                Size(BYTES_MAX)
            ),
            Says::Nothing => {}
        }
    }

    /// Lines that were dropped since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// The lines that were dropped in the minute that has ended since the last one, and what is
    /// logged now.
    fn admit(&self, bytes: usize, now: Instant) -> (u64, Says) {
        let mut minute = sync::lock(&self.minute);
        let began = *minute.began.get_or_insert(now);
        let mut dropped_before = 0;
        if now.saturating_duration_since(began) >= MINUTE {
            dropped_before = minute.dropped;
            *minute = Minute {
                began: Some(now),
                ..Minute::default()
            };
        }
        minute.used = minute.used.saturating_add(bytes.max(LINE_BYTES_MIN));
        if minute.used <= BYTES_MAX {
            return (dropped_before, Says::Line);
        }
        minute.dropped += 1;
        self.dropped.fetch_add(1, Relaxed);
        let says = if minute.dropped == 1 {
            Says::UsedUp
        } else {
            Says::Nothing
        };
        (dropped_before, says)
    }
}

/// What is logged in place of a line.
#[derive(Debug, PartialEq, Eq)]
enum Says {
    Line,
    UsedUp,
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    // A request of 1,280 bytes wrote 197 MB of log, because each of its batches might log its limit.
    #[test]
    fn the_log_of_a_minute_is_bounded_and_what_was_dropped_is_counted() {
        let (quota, start) = (Quota::default(), Instant::now());
        let lines = |at: Instant| {
            let said: Vec<Says> = (0..10_000).map(|_| quota.admit(100, at).1).collect();
            let count = |what: Says| said.iter().filter(|said| **said == what).count();
            (count(Says::Line), count(Says::UsedUp), count(Says::Nothing))
        };
        let full = BYTES_MAX / 100;
        assert_eq!(lines(start), (full, 1, 10_000 - full - 1));
        assert_eq!(quota.dropped(), (10_000 - full) as u64);
        let next = start + MINUTE;
        assert_eq!(
            quota.admit(0, next),
            ((10_000 - full) as u64, Says::Line),
            "the count is told once"
        );
        assert_eq!(quota.admit(0, next), (0, Says::Line));
    }
}
