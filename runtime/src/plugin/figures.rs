//! Call times and faults of plugins, for the metrics.
//!
//! Counters live as long as the host, so that they keep rising when a plugin is swapped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::plugin::quota::Quota;
use crate::sync;

/// Upper bounds of the buckets of call times, in seconds; a last bucket counts the longer ones.
pub const CALL_SECONDS: [f64; 8] = [0.000_1, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 2.0];

/// The first calls of reused instances of a version are all sampled, so that a plugin that remembers is
/// found soon.
const FIRST_SAMPLED: u64 = 8;

/// The call times of all versions of one plugin together. A call is a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calls {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// The number of calls.
    pub count: u64,
    /// Their total time, in seconds.
    pub seconds: f64,
    /// The number of calls per bucket of [`CALL_SECONDS`], not cumulative; the last bucket has no
    /// bound.
    pub buckets: [u64; CALL_SECONDS.len() + 1],
}

impl Calls {
    /// The bound that this share of the calls did not exceed, in seconds; `None` without a call, and for the
    /// bucket without a bound.
    pub fn at_most(&self, share: f64) -> Option<f64> {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        reached.and_then(|bucket| CALL_SECONDS.get(bucket)).copied()
    }
}

/// The faults of one version of a plugin: it trapped, exceeded a limit, raised an exception, or returned
/// something unusable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traps {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// First 12 digits of its SHA-256.
    pub version: Arc<str>,
    /// The number of faults.
    pub count: u64,
}

/// A snapshot of all figures of this room.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// By plugin.
    pub calls: Vec<Calls>,
    /// By plugin and version, for versions that were loaded.
    pub traps: Vec<Traps>,
    /// Batches waiting for a worker: ingest, urgent, bulk.
    pub waiting: [usize; 3],
    /// Memory of idle instances, in bytes.
    pub idle_bytes: usize,
    /// Calls that returned something else in a new instance, by plugin and version; in no order.
    pub differing: Vec<Traps>,
    /// Lines of log that were dropped, by plugin.
    pub log_dropped: Vec<(Arc<str>, u64)>,
}

/// The counters.
#[derive(Default)]
pub(super) struct Figures(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    times: BTreeMap<Arc<str>, Arc<Times>>,
    traps: BTreeMap<(Arc<str>, Arc<str>), Arc<AtomicU64>>,
    differing: BTreeMap<(Arc<str>, Arc<str>), Arc<AtomicU64>>,
    quotas: BTreeMap<Arc<str>, Arc<Quota>>,
}

#[derive(Default)]
struct Times {
    micros: AtomicU64,
    buckets: [AtomicU64; CALL_SECONDS.len() + 1],
}

/// The counters of one component.
pub(super) struct Counter {
    times: Arc<Times>,
    traps: Arc<AtomicU64>,
    differing: Arc<AtomicU64>,
    reused: AtomicU64,
}

impl Figures {
    /// The counter of one version of a plugin.
    pub(super) fn counter(&self, plugin: &str, version: &str) -> Arc<Counter> {
        let mut inner = sync::lock(&self.0);
        let times = inner.times.entry(plugin.into()).or_default().clone();
        let traps = inner
            .traps
            .entry((plugin.into(), version.into()))
            .or_default()
            .clone();
        let differing = inner
            .differing
            .entry((plugin.into(), version.into()))
            .or_default()
            .clone();
        Arc::new(Counter {
            times,
            traps,
            differing,
            reused: AtomicU64::new(0),
        })
    }

    /// The quota of a plugin's log. All versions share it: a new one has no fresh quota.
    pub(super) fn quota(&self, plugin: &str) -> Arc<Quota> {
        let mut inner = sync::lock(&self.0);
        inner.quotas.entry(plugin.into()).or_default().clone()
    }

    pub(super) fn snapshot(&self, waiting: [usize; 3], idle_bytes: usize) -> Snapshot {
        let inner = sync::lock(&self.0);
        let calls = inner.times.iter().map(|(plugin, times)| {
            let buckets =
                std::array::from_fn(|bucket| times.buckets[bucket].load(Ordering::Relaxed));
            let seconds = times.micros.load(Ordering::Relaxed) as f64 / 1e6;
            Calls {
                plugin: plugin.clone(),
                count: buckets.iter().sum(),
                seconds,
                buckets,
            }
        });
        let counted =
            |((plugin, version), count): (&(Arc<str>, Arc<str>), &Arc<AtomicU64>)| Traps {
                plugin: plugin.clone(),
                version: version.clone(),
                count: count.load(Ordering::Relaxed),
            };
        let traps = inner.traps.iter().map(counted);
        let quotas = inner.quotas.iter();
        Snapshot {
            log_dropped: quotas
                .map(|(plugin, quota)| (plugin.clone(), quota.dropped()))
                .collect(),
            differing: inner.differing.iter().map(counted).collect(),
            calls: calls.collect(),
            traps: traps.collect(),
            waiting,
            idle_bytes,
        }
    }
}

impl Counter {
    pub(super) fn called(&self, time: Duration) {
        let bucket = CALL_SECONDS
            .iter()
            .position(|bound| time.as_secs_f64() <= *bound)
            .unwrap_or(CALL_SECONDS.len());
        self.times.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.times.micros.fetch_add(
            u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    pub(super) fn trapped(&self) {
        self.traps.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call of a reused instance; returns whether it is a sample, which the first ones are and
    /// then one in `every`.
    pub(super) fn samples(&self, every: u64) -> bool {
        let number = self.reused.fetch_add(1, Ordering::Relaxed) + 1;
        number <= FIRST_SAMPLED || number.is_multiple_of(every)
    }

    /// Counts a call that returned something else in a new instance; returns how many before.
    pub(super) fn differed(&self) -> u64 {
        self.differing.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn differing(&self) -> u64 {
        self.differing.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_share_their_plugins_time_and_have_traps_of_their_own() {
        let figures = Figures::default();
        let (old, new) = (figures.counter("erp", "1"), figures.counter("erp", "2"));
        old.called(Duration::from_millis(2));
        new.called(Duration::from_secs(3));
        new.trapped();
        let snapshot = figures.snapshot([0; 3], 0);
        assert_eq!(snapshot.calls.len(), 1);
        assert_eq!(
            (snapshot.calls[0].count, snapshot.calls[0].seconds),
            (2, 3.002)
        );
        assert_eq!(snapshot.calls[0].buckets, [0, 0, 0, 1, 0, 0, 0, 0, 1]);
        let shares = [0.5, 0.51].map(|share| snapshot.calls[0].at_most(share));
        assert_eq!(shares, [Some(0.005), None]);
        assert_eq!(Calls::default().at_most(0.5), None);
        assert_eq!(
            snapshot
                .traps
                .iter()
                .map(|traps| traps.count)
                .collect::<Vec<_>>(),
            [0, 1]
        );
    }
}
