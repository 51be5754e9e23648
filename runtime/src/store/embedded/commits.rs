//! Durations of durable writes of commits: counted by the writer, read by any thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::store::COMMIT_SECONDS;

/// The counters; they only rise while the store is open.
#[derive(Default)]
pub(super) struct Commits {
    buckets: [AtomicU64; COMMIT_SECONDS.len() + 1],
    micros: AtomicU64,
}

impl Commits {
    /// Counts one synced write.
    pub(super) fn count(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = COMMIT_SECONDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(COMMIT_SECONDS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(
            u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    /// The number of writes.
    pub(super) fn total(&self) -> u64 {
        self.seconds().0.iter().sum()
    }

    /// As in [`crate::store::Figures::commit_seconds`].
    pub(super) fn seconds(&self) -> ([u64; COMMIT_SECONDS.len() + 1], f64) {
        let buckets = self
            .buckets
            .each_ref()
            .map(|bucket| bucket.load(Ordering::Relaxed));
        (buckets, self.micros.load(Ordering::Relaxed) as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::{Embedded, Options};
    use crate::store::{Commit, Content, Effect, Identity, Store};

    #[test]
    fn writes_are_counted_by_how_long_they_took() {
        let commits = Commits::default();
        for micros in [250, 251, 40_000, 3_000_000] {
            commits.count(Duration::from_micros(micros));
        }
        let (buckets, sum) = commits.seconds();
        assert_eq!(
            buckets,
            [1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1],
            "a bound belongs to its bucket"
        );
        assert!((sum - 3.040_501).abs() < 1e-9, "{sum}");
        assert_eq!(commits.total(), 4);
    }

    #[test]
    fn each_synced_batch_of_commits_is_in_the_figures() {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(Options {
            cache_bytes: 1 << 24,
            ..Options::new(folder.path())
        })
        .unwrap();
        let none = store.figures().commit_seconds;
        assert_eq!(none, Default::default(), "opening writes no commits");
        for identity in 1..=3 {
            let event = Commit {
                source: "erp".into(),
                identity: Some(Identity {
                    id: identity,
                    content: Content::of(u64::MAX),
                }),
                arrival: None,
                effect: Effect::Filtered,
            };
            store
                .commit(vec![event])
                .unwrap()
                .blocking_recv()
                .unwrap()
                .unwrap();
        }
        store.close().wait().unwrap();
        let (buckets, sum) = store.figures().commit_seconds;
        assert_eq!((buckets.iter().sum::<u64>(), store.commits()), (3, 3));
        assert!(sum > 0.0, "{sum}");
    }
}
