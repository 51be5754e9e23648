//! Reports on sweeps. A channel whose rendering changed walks over all entities (a backfill); when
//! it has finished, the log says how many were rendered, suppressed, delivered and withdrawn.
//!
//! The figures include everything that the channel settled while it swept, so they also include
//! changes that arrived meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::now;
use crate::dispatch::{Channel, status};
use crate::model::Timestamp;
use crate::server::views::SweepView;
use crate::sync::lock;

/// Delay of the first poll after a sweep starts; each further delay is twice as long,
const POLL_FIRST: Duration = Duration::from_millis(20);
/// up to this interval.
const POLL_MAX: Duration = Duration::from_secs(1);
/// How long to wait for the last flights after the sweep has met its last entity. Flights that are
/// still open after this time belong to something else.
const LAST_FLIGHTS: Duration = Duration::from_secs(10);

/// The last sweep of each channel.
#[derive(Default)]
pub(super) struct Sweeps(Mutex<BTreeMap<Arc<str>, Arc<Sweep>>>);

/// One sweep.
struct Sweep {
    began: Timestamp,
    /// The channel's counts when the sweep started.
    before: Counts,
    /// The most entities that it had yet to visit when it was looked at: about as many as there are in all.
    most: AtomicU64,
    /// When it ended, and the channel's counts then.
    end: Mutex<Option<(Timestamp, Counts)>>,
}

/// A count for each [`status::DeliveryResult`].
pub(super) type Counts = [u64; status::DeliveryResult::ALL.len()];

impl Sweeps {
    /// Starts to follow a sweep of a channel and logs its result at the end. `before` are the channel's
    /// counts from before the sweep: a short one may be over by now. An earlier sweep of the channel that
    /// is still running is not followed any longer.
    pub(super) fn begin(
        self: &Arc<Self>,
        name: &Arc<str>,
        channel: &Arc<Channel>,
        before: Counts,
        stopping: &CancellationToken,
    ) {
        let sweep = Arc::new(Sweep {
            began: now(),
            before,
            most: AtomicU64::new(channel.status().owed.sweep),
            end: Mutex::new(None),
        });
        lock(&self.0).insert(name.clone(), sweep.clone());
        let (sweeps, name, channel, stopping) = (
            self.clone(),
            name.clone(),
            Arc::downgrade(channel),
            stopping.clone(),
        );
        tokio::spawn(async move {
            let follow = sweeps.follow(&name, &sweep, &channel);
            tokio::select! {
                () = follow => {}
                () = stopping.cancelled() => {}
            }
        });
    }

    /// The last sweep of a channel, running or ended.
    pub(super) fn of(&self, channel: &Channel) -> Option<SweepView> {
        let name = &channel.setup().options.name;
        let sweep = lock(&self.0).get(name)?.clone();
        Some(sweep.view(&counts(channel), channel.status().owed.sweep))
    }

    /// Forgets the sweeps of channels that have left the configuration.
    pub(super) fn keep(&self, mut known: impl FnMut(&Arc<str>) -> bool) {
        lock(&self.0).retain(|channel, _| known(channel));
    }

    async fn follow(&self, name: &Arc<str>, sweep: &Arc<Sweep>, channel: &Weak<Channel>) {
        let (mut look, mut met_all) = (POLL_FIRST, None);
        loop {
            tokio::time::sleep(look).await;
            look = (look * 2).min(POLL_MAX);
            let Some(channel) = channel.upgrade() else {
                return;
            };
            if !lock(&self.0)
                .get(name)
                .is_some_and(|current| Arc::ptr_eq(current, sweep))
            {
                return;
            }
            let owed = channel.status().owed;
            sweep.most.fetch_max(owed.sweep, Relaxed);
            if owed.sweep > 0 {
                met_all = None;
                continue;
            }
            let since = *met_all.get_or_insert_with(tokio::time::Instant::now);
            if owed.in_flight > 0 && since.elapsed() < LAST_FLIGHTS {
                look = POLL_FIRST;
                continue;
            }
            let end = counts(&channel);
            *lock(&sweep.end) = Some((now(), end));
            let SweepView {
                rendered,
                suppressed,
                delivered,
                withdrawn,
                withheld,
                refused,
                parked,
                held,
                ..
            } = sweep.view(&end, 0);
            let seconds = now().0.saturating_sub(sweep.began.0) as f64 / 1000.0;
            tracing::info!(
                channel = &**name,
                rendered,
                suppressed,
                delivered,
                withdrawn,
                withheld,
                refused,
                parked,
                held,
                seconds,
                "sweep finished: {rendered} rendered, of which {suppressed} suppressed; {delivered} delivered, {withdrawn} withdrawn"
            );
            return;
        }
    }
}

impl Sweep {
    /// With the channel's counts now, and the entities that it has yet to visit.
    fn view(&self, now: &Counts, left: u64) -> SweepView {
        let end = *lock(&self.end);
        let total = self.most.fetch_max(left, Relaxed).max(left);
        let counts = end.map_or(*now, |(_, counts)| counts);
        let count = |result: status::DeliveryResult| {
            counts[result as usize].saturating_sub(self.before[result as usize])
        };
        let (delivered, suppressed) = (
            count(status::DeliveryResult::Delivered),
            count(status::DeliveryResult::Suppressed),
        );
        SweepView {
            began: self.began.into(),
            ended: end.map(|(time, _)| time.into()),
            total,
            rendered: delivered + suppressed + count(status::DeliveryResult::Counted),
            suppressed,
            delivered,
            withdrawn: count(status::DeliveryResult::Withdrawn),
            withheld: count(status::DeliveryResult::Withheld),
            refused: count(status::DeliveryResult::Refused),
            parked: count(status::DeliveryResult::Parked),
            held: count(status::DeliveryResult::Held),
        }
    }
}

/// What a channel has settled since it was started.
pub(super) fn counts(channel: &Channel) -> Counts {
    let counters = channel.counters();
    status::DeliveryResult::ALL.map(|result| counters.count(result))
}
