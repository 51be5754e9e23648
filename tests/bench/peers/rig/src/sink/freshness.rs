//! How long the sites waited for each event of a day.
//!
//! An event has reached a site when its state, or a newer one of the same product, has arrived there. So a
//! system that leaves out states that are no longer true is measured by the same events as one that delivers
//! them all. An event that has not arrived counts with its age at the end: without it, a system would look
//! the fresher the less it delivered.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::events::Due;

/// Longest wait that is told from longer ones.
const WAIT_MS_MAX: u64 = 24 * 3_600_000;

/// A state that arrived at a site.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The number of the product.
    pub key: u32,
    /// The number of the event.
    pub seq: u32,
    /// Milliseconds since 1970.
    pub ms: u64,
}

/// What the sites saw of a day. A wait is in milliseconds, from when an event was due.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Freshness {
    /// Waits for the events that have their times: not for the change of every product.
    fresh_ms_p50: u64,
    fresh_ms_p99: u64,
    fresh_ms_max: u64,
    /// The 99th percentile at the site where it is the longest.
    fresh_ms_p99_worst: u64,
    /// Time from the first request of the change of every product until each site had all of it.
    full_change_ms: Option<u64>,
    /// Age of the oldest event that a site did not have when the day ended, and the pairs (site, product)
    /// that were not up to date.
    behind_ms: u64,
    behind_pairs: u64,
    /// The same for the moment when the sites were last looked at.
    owed_ms: u64,
    owed_pairs: u64,
    /// Time from the end of the day until each site had everything.
    converged_ms: Option<u64>,
}

/// What is owed at a moment.
#[derive(Default)]
struct Owed {
    at_ms: u64,
    oldest_ms: u64,
    pairs: u64,
}

impl Owed {
    /// The events of one pair, each with the time of its arrival.
    fn add(&mut self, events: &[Due], arrived: &[Option<u64>]) {
        let owed = events.iter().zip(arrived).filter(|(event, arrived)| {
            event.ms <= self.at_ms && arrived.is_none_or(|arrived| arrived > self.at_ms)
        });
        let oldest = owed.map(|(event, _)| self.at_ms - event.ms).max();
        self.pairs += u64::from(oldest.is_some());
        self.oldest_ms = self.oldest_ms.max(oldest.unwrap_or(0));
    }
}

impl Freshness {
    /// Compares the events of a day with what arrived at each site up to `until_ms`.
    pub fn compare<'a>(
        mut events: Vec<Due>,
        sites: impl Iterator<Item = &'a [Arrival]>,
        end_ms: u64,
        until_ms: u64,
    ) -> Freshness {
        events.sort_unstable_by_key(|event| (event.state.key, event.state.seq));
        let all = events.iter().filter(|event| event.full_change);
        let full_change_began = all.map(|event| event.ms).min();
        let at = |at_ms| Owed {
            at_ms,
            ..Owed::default()
        };
        let (mut behind, mut owed) = (at(end_ms), at(until_ms));
        let (mut waits, mut worst) = (histogram(), 0);
        // The last arrivals, of the change of every product and of anything; `None` if something is missing.
        let (mut full_change_arrived, mut last_arrived) = (full_change_began, Some(end_ms));
        for log in sites {
            let arrived = arrivals(&events, log, until_ms);
            let mut here = histogram();
            for (event, arrived) in events.iter().zip(&arrived) {
                last_arrived = later(last_arrived, *arrived);
                if event.full_change {
                    full_change_arrived = later(full_change_arrived, *arrived);
                } else {
                    let wait = arrived.unwrap_or(until_ms).saturating_sub(event.ms);
                    here.saturating_record(wait);
                }
            }
            let mut from = 0;
            for pair in events.chunk_by(|left, right| left.state.key == right.state.key) {
                let arrived = &arrived[from..from + pair.len()];
                from += pair.len();
                behind.add(pair, arrived);
                owed.add(pair, arrived);
            }
            worst = worst.max(here.value_at_quantile(0.99));
            waits += here;
        }
        Freshness {
            fresh_ms_p50: waits.value_at_quantile(0.5),
            fresh_ms_p99: waits.value_at_quantile(0.99),
            fresh_ms_max: waits.max(),
            fresh_ms_p99_worst: worst,
            full_change_ms: full_change_arrived
                .zip(full_change_began)
                .map(|(arrived, began)| arrived.saturating_sub(began)),
            behind_ms: behind.oldest_ms,
            behind_pairs: behind.pairs,
            owed_ms: owed.oldest_ms,
            owed_pairs: owed.pairs,
            converged_ms: last_arrived.map(|last| last.saturating_sub(end_ms)),
        }
    }
}

/// The later of two times, if both are known.
fn later(first: Option<u64>, second: Option<u64>) -> Option<u64> {
    first.zip(second).map(|(first, second)| first.max(second))
}

/// For each of the sorted events, when its state or a newer one of the same product arrived.
fn arrivals(events: &[Due], log: &[Arrival], until_ms: u64) -> Vec<Option<u64>> {
    let mut arrived = vec![None; events.len()];
    // For each product, its first event that has not arrived.
    let keys = events
        .last()
        .map_or(0, |event| event.state.key as usize + 1);
    let mut next = vec![events.len(); keys];
    for (number, event) in events.iter().enumerate().rev() {
        next[event.state.key as usize] = number;
    }
    for Arrival { key, seq, ms } in log.iter().filter(|arrival| arrival.ms <= until_ms) {
        let Some(next) = next.get_mut(*key as usize) else {
            continue;
        };
        while let Some(event) = events.get(*next)
            && event.state.key == *key
            && event.state.seq <= *seq
        {
            arrived[*next] = Some(*ms);
            *next += 1;
        }
    }
    arrived
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, WAIT_MS_MAX, 3).expect("these bounds are in order")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::State;

    /// An event of the steady load: product, number, due time.
    fn due(key: u32, seq: u32, ms: u64) -> Due {
        let state = State { key, seq };
        let full_change = false;
        Due {
            state,
            ms,
            full_change,
        }
    }

    fn arrival((key, seq, ms): (u32, u32, u64)) -> Arrival {
        Arrival { key, seq, ms }
    }

    fn freshness(events: &[Due], sites: &[&[(u32, u32, u64)]], end: u64, until: u64) -> Freshness {
        let logs: Vec<Vec<Arrival>> = sites
            .iter()
            .map(|log| log.iter().copied().map(arrival).collect())
            .collect();
        Freshness::compare(events.to_vec(), logs.iter().map(Vec::as_slice), end, until)
    }

    // A system that only delivers the newest state would look fresh if nobody asked for the one before it.
    #[test]
    fn a_state_that_was_superseded_waits_until_the_newer_one_arrives() {
        let events = [due(0, 1, 1_000), due(0, 2, 1_900)];
        let merged = freshness(&events, &[&[(0, 2, 2_000)]], 2_000, 3_000);
        assert_eq!((merged.fresh_ms_p50, merged.fresh_ms_max), (100, 1_000));
        let each = freshness(&events, &[&[(0, 1, 1_001), (0, 2, 2_000)]], 2_000, 3_000);
        assert_eq!((each.fresh_ms_p50, each.fresh_ms_max), (1, 100));
        assert_eq!(merged.converged_ms, Some(0));
    }

    #[test]
    fn what_has_not_arrived_counts_with_its_age() {
        let events = [due(0, 1, 1_000), due(1, 2, 1_000), due(1, 3, 3_000)];
        // An older state, a state of no event, and one that came too late.
        let log = [(0, 1, 1_010), (1, 2, 2_500), (9, 3, 2_500), (1, 3, 5_001)];
        let freshness = freshness(&events, &[&log], 2_000, 5_000);
        assert_eq!(
            (freshness.fresh_ms_p50, freshness.fresh_ms_max),
            (1_500, 2_000)
        );
        assert_eq!((freshness.behind_ms, freshness.behind_pairs), (1_000, 1));
        assert_eq!((freshness.owed_ms, freshness.owed_pairs), (2_000, 1));
        assert_eq!(freshness.converged_ms, None);
    }

    #[test]
    fn an_older_state_after_a_newer_one_changes_nothing() {
        let events = [due(0, 1, 1_000), due(0, 2, 1_000)];
        let log = [(0, 2, 1_005), (0, 1, 1_900)];
        let freshness = freshness(&events, &[&log], 2_000, 2_000);
        assert_eq!(freshness.fresh_ms_max, 5);
    }

    #[test]
    fn the_change_of_every_product_is_everywhere_when_the_last_site_has_it() {
        let full_change = |key, seq, ms| Due {
            full_change: true,
            ..due(key, seq, ms)
        };
        let events = [
            full_change(0, 1, 1_000),
            full_change(1, 2, 1_200),
            due(0, 3, 1_500),
        ];
        let first: &[_] = &[(0, 1, 1_100), (1, 2, 1_300), (0, 3, 1_500)];
        // The newer state stands for the one of the change.
        let second: &[_] = &[(1, 2, 1_250), (0, 3, 1_800)];
        let both = freshness(&events, &[first, second], 2_000, 2_000);
        assert_eq!(both.full_change_ms, Some(800));
        // The change itself has no times at which it is due.
        assert_eq!((both.fresh_ms_p50, both.fresh_ms_max), (0, 300));
        assert_eq!(both.fresh_ms_p99_worst, 300);
        let missing = freshness(&events, &[&[(0, 3, 1_800)], first], 2_000, 2_000);
        assert_eq!((missing.full_change_ms, missing.converged_ms), (None, None));
        assert_eq!((missing.owed_ms, missing.owed_pairs), (800, 1));
        // A site that nothing reached.
        assert_eq!(
            freshness(&events, &[first, &[]], 2_000, 2_000).owed_pairs,
            2
        );
    }
}
