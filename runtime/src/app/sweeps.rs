//! What sweeps have come to: a channel that renders otherwise walks over all entities, and at its
//! end says how many were rendered, suppressed, delivered and withdrawn.
//!
//! What is counted is all that the channel settled while it swept, so a change that came meanwhile
//! is in it too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::now;
use crate::dispatch::{Channel, status};
use crate::model::Timestamp;
use crate::server::views::SweepView;
use crate::sync::lock;

/// Delay of the first poll after a sweep starts.
const POLL_FIRST: Duration = Duration::from_millis(20);
/// Longest interval between polls.
const POLL_MAX: Duration = Duration::from_secs(1);
/// Flights that began with the sweep have ended so long after it has met its last entity, or are of
/// something else.
const LAST_FLIGHTS: Duration = Duration::from_secs(10);

/// The last sweep of each channel.
#[derive(Default)]
pub(super) struct Sweeps(Mutex<BTreeMap<Arc<str>, Arc<Sweep>>>);

/// One sweep.
struct Sweep {
    began: Timestamp,
    /// What the channel had counted before.
    before: Counts,
    /// When it was over and what it had come to.
    end: Mutex<Option<(Timestamp, Counts)>>,
}

/// By [`status::Ending`].
type Counts = [u64; status::Ending::ALL.len()];

impl Sweeps {
    /// A channel sweeps from now on; its end is told in the log. One that was still under way is
    /// told no more.
    pub(super) fn begin(
        self: &Arc<Self>,
        name: &Arc<str>,
        channel: &Arc<Channel>,
        stopping: &CancellationToken,
    ) {
        let sweep = Arc::new(Sweep {
            began: now(),
            before: counts(channel),
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

    /// The last sweep of a channel.
    pub(super) fn of(&self, channel: &Channel) -> Option<SweepView> {
        let name = &channel.setup().options.name;
        let sweep = lock(&self.0).get(name)?.clone();
        Some(sweep.view(&counts(channel)))
    }

    /// What has left the configuration is forgotten.
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
            } = sweep.view(&end);
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
                "the channel has swept: {rendered} rendered, of them {suppressed} suppressed; {delivered} delivered, {withdrawn} withdrawn"
            );
            return;
        }
    }
}

impl Sweep {
    fn view(&self, now: &Counts) -> SweepView {
        let end = *lock(&self.end);
        let counts = end.map_or(*now, |(_, counts)| counts);
        let count = |result: status::Ending| {
            counts[result as usize].saturating_sub(self.before[result as usize])
        };
        let (delivered, suppressed) = (
            count(status::Ending::Delivered),
            count(status::Ending::Suppressed),
        );
        SweepView {
            began: self.began.into(),
            ended: end.map(|(time, _)| time.into()),
            rendered: delivered + suppressed + count(status::Ending::Counted),
            suppressed,
            delivered,
            withdrawn: count(status::Ending::Withdrawn),
            withheld: count(status::Ending::Withheld),
            refused: count(status::Ending::Refused),
            parked: count(status::Ending::Parked),
            held: count(status::Ending::Held),
        }
    }
}

fn counts(channel: &Channel) -> Counts {
    let counters = channel.counters();
    status::Ending::ALL.map(|result| counters.count(result))
}
