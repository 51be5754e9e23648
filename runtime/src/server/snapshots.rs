//! The snapshot of all figures that scrapes share for a second.
//!
//! Scrapers that meet, and one that does not wait for its last answer, get the same figures: however many
//! there are, the figures are gathered once a second. They wait for the one that gathers, and not for each
//! other's text.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Backend;
use crate::metrics::Snapshot;
use crate::sync::lock;

/// For how long a snapshot is shared.
const SHARED: Duration = Duration::from_secs(1);

/// The last snapshot, and when it was gathered.
#[derive(Default)]
pub(super) struct Snapshots(Mutex<Option<(Instant, Arc<Snapshot>)>>);

impl Snapshots {
    /// The figures at `now`, or at most a second before.
    pub(super) fn get(&self, backend: &dyn Backend, now: Instant) -> Arc<Snapshot> {
        let mut last = lock(&self.0);
        let fresh = |at: Instant| now.saturating_duration_since(at) < SHARED;
        if let Some((_, snapshot)) = last.as_ref().filter(|(at, _)| fresh(*at)) {
            return snapshot.clone();
        }
        let snapshot = Arc::new(backend.snapshot());
        *last = Some((now, snapshot.clone()));
        snapshot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::fake::Fake;

    // Scrapes that overlapped gathered the figures of all channels one after the other, and together took
    // longer than the scraper waited.
    #[test]
    fn scrapes_within_a_second_share_one_snapshot() {
        let (snapshots, fake) = (Snapshots::default(), Fake::default());
        let began = Instant::now();
        let get = |millis| snapshots.get(&fake, began + Duration::from_millis(millis));
        let first = get(0);
        assert!(Arc::ptr_eq(&first, &get(0)) && Arc::ptr_eq(&first, &get(999)));
        let second = get(1_000);
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &get(1_999)));
    }
}
